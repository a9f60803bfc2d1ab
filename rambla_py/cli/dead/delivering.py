"""The replay of selected letters by a running app, and what became of them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

import msgspec
from rich.console import Console

from rambla_py.app import Rambla
from rambla_py.cli import exit_codes
from rambla_py.cli.interrupts import heard
from rambla_py.cli.progress import Now, bar
from rambla_py.delivery import Delivery
from rambla_py.outbox.dead import Selected
from rambla_py.outbox.editing import Edit
from rambla_py.outbox.replaying import Replay
from rambla_py.outbox.rows import Row
from rambla_py.outcome import STATUSES, Status
from rambla_py.telemetry.observer import ObservedTarget, Observer

__all__ = ["Delivered", "deliver"]

_STEP_S: Final = 0.05
_IN_FLIGHT_S: Final = 5.0
"""For how long attempts that have begun may go on at the end."""


class Delivered(msgspec.Struct, frozen=True):
    """What a replay came to: outcomes by status, and the number of a signal that ended it.

    ``kept`` is how many were replayed, and have no outcome yet.
    """

    replay: Replay
    outcomes: Mapping[str, int]
    kept: int
    signal: int = 0

    @property
    def exit_code(self) -> int:
        """0 if every letter was delivered, 1 if not, 128 and its number after a signal."""
        if self.signal:
            return exit_codes.BY_SIGNAL + self.signal
        done = self.outcomes.get("ok", 0) == self.replay.selected
        return exit_codes.OK if done else exit_codes.FAILED

    def as_data(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "ok": self.exit_code == exit_codes.OK,
            **msgspec.to_builtins(self.replay),
            "left": self.replay.left,
            "outcomes": {status: self.outcomes.get(status, 0) for status in STATUSES},
            "kept": self.kept,
            "signal": self.signal or None,
        }

    def in_words(self) -> str:
        """Return it as one line."""
        replay = self.replay
        text = f"{replay.selected:,} selected, {replay.replayed:,} replayed"
        ended = [f"{number:,} {_WORDS[status]}" for status, number in self.outcomes.items() if number]
        ended += [f"{self.kept:,} kept in the outbox"] if self.kept else []
        notes = [
            ", ".join(ended),
            f"{len(replay.refused):,} refused" if replay.refused else "",
            f"{replay.left:,} left as dead letters: run it again" if replay.left else "",
        ]
        return "; ".join([text, *filter(None, notes)])


_WORDS: Final[Mapping[str, str]] = {
    **{status: status for status in STATUSES},
    "ok": "delivered",
    "fatal": "dead again",
}


class _Outcomes(Observer):
    """The outcomes of the messages that were moved, from any thread; the app may deliver others as well."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[tuple[str, str]] = set()
        self._ended: Counter[str] = Counter()

    def expect(self, rows: Sequence[Row]) -> None:
        """Count the outcomes of rows, which are delivered from now on."""
        with self._lock:
            self._waiting |= {(row.target, row.id) for row in rows}

    def ended(self, target: ObservedTarget, deliveries: Sequence[Delivery[Any]], status: Status) -> None:
        """Count those of them that were moved."""
        with self._lock:
            mine = self._waiting & {(target.name, delivery.id) for delivery in deliveries}
            self._waiting -= mine
            self._ended[status] += len(mine)

    @property
    def left(self) -> int:
        """How many have no outcome yet."""
        with self._lock:
            return len(self._waiting)

    def counts(self) -> dict[str, int]:
        """Return how many ended, by status."""
        with self._lock:
            return dict(self._ended)


class _Signals:
    """The first signal, for a main thread that waits in short steps."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[int] = SimpleQueue()
        self.put = self._queue.put
        self.caught = 0

    def wait(self, seconds: float) -> bool:
        """Wait for a signal; return whether there was one."""
        if not self.caught:
            with suppress(Empty):
                self.caught = self._queue.get(timeout=seconds) if seconds else self._queue.get_nowait()
        return bool(self.caught)


def deliver(
    app: Rambla, selected: Selected, edit: Edit, rate_per_s: float, timeout_s: float, console: Console
) -> Delivered:
    """Start the app, replay the letters, and wait for their outcomes."""
    outcomes, signals = _Outcomes(), _Signals()  # type: ignore[abstract]  # every method is optional
    app.observe(outcomes)

    def now() -> Now:
        counts = outcomes.counts()
        ended = sum(counts.values())
        return Now(ended, ended, ended - counts.get("ok", 0))

    with heard(signals.put):
        app.start()
        try:
            with bar(console, "replay", len(selected.letters), now):
                steps = app.outbox.replaying(
                    selected, edit, rate_per_s=rate_per_s, moved=outcomes.expect, wait=signals.wait
                )
                *_, replay = steps
                deadline = time.monotonic() + timeout_s
                while outcomes.left and time.monotonic() < deadline and not signals.wait(_STEP_S):
                    pass
        finally:
            app.stop(_IN_FLIGHT_S)
    return Delivered(replay, outcomes.counts(), outcomes.left, signals.caught)
