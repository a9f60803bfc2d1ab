"""Counts of outcomes, in memory that does not grow with their number."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from rambla_py.cli.message_reader import Line
from rambla_py.errors import DroppedError, ExpiredError
from rambla_py.outcome import Outcome
from rambla_py.receipt import Receipt

__all__ = ["NOT_CONNECTED", "Counts", "Failure"]

DISTINCT: Final = 100
"""Kinds of errors that are counted separately; strings with message data would be unbounded."""

NOT_CONNECTED: Final = "not connected"
"""Why messages were dropped if the command gave up on their target."""

_SWEEP: Final = 4_096
_SWEEP_S: Final = 1.0


class Failure(NamedTuple):
    """One kind of failure: where, how it ended, why."""

    target: str
    status: str
    error: str


class _Open(NamedTuple):
    line: Line
    receipt: Receipt


class Counts:
    """Takes the receipts of messages and lets go of each when it is complete. For one thread at a time.

    ``failed`` counts the messages with a delivery that did not succeed, its fallbacks included.
    ``on_refused`` is called with each delivery that was refused, and not with those that were dropped only
    because the command ended; ``dropped_reason`` is what is reported for these.
    """

    def __init__(
        self, redact: Callable[[str], str], on_refused: Callable[[Line, Outcome, str], None]
    ) -> None:
        self.failed = 0
        self.failures: Counter[Failure] = Counter()
        self.dropped_reason = "not delivered within --timeout"
        self._redact, self._on_refused = redact, on_refused
        self._open: list[_Open] = []
        self._room = _SWEEP
        self._next_at = 0.0
        self._read_to = 0
        self._first_undelivered: int | None = None

    @property
    def last_line(self) -> int:
        """The last line before which, itself included, every message was delivered or refused."""
        left = [one.line.number for one in self._open]
        if self._first_undelivered is not None:
            left.append(self._first_undelivered)
        return min(left) - 1 if left else self._read_to

    def read_to(self, line: int) -> None:
        """Record that all lines up to this one were read, and published if they are messages."""
        self._read_to = line

    def add(self, line: Line, receipt: Receipt) -> None:
        """Keep the receipt of a line until it is complete."""
        self._open.append(_Open(line, receipt))
        if len(self._open) >= self._room or time.monotonic() >= self._next_at:
            self.sweep()

    def sweep(self) -> int:
        """Count what is complete by now; return how many messages are not."""
        left = []
        for one in self._open:
            if one.receipt.done():
                self._take(one.line, one.receipt.outcomes())
            else:
                left.append(one)
        self._open = left
        # Twice what is pending: each message is then looked at twice at most.
        self._room = max(_SWEEP, 2 * len(left))
        # Sooner where messages are few: refused rows then show while the command runs.
        self._next_at = time.monotonic() + _SWEEP_S
        return len(left)

    def as_data(self) -> list[dict[str, Any]]:
        """Return the failures for JSON, the commonest first."""
        return [{**kind._asdict(), "count": count} for kind, count in self.failures.most_common()]

    def _take(self, line: Line, outcomes: list[Outcome]) -> None:
        bad = [outcome for outcome in outcomes if not outcome.succeeded]
        self.failed += bool(bad)
        for outcome in bad:
            final = outcome.final
            why = self._why(final)
            kind = Failure(f"{final.service}.{final.channel}", final.status, why)
            if kind not in self.failures and len(self.failures) >= DISTINCT:
                kind = kind._replace(error="other errors")
            self.failures[kind] += 1
            if _is_unsent(final):
                first = self._first_undelivered
                self._first_undelivered = line.number if first is None else min(first, line.number)
            else:
                self._on_refused(line, outcome, why)

    def _why(self, outcome: Outcome) -> str:
        error = outcome.error
        if error is None:
            return "no reason given"
        # What expired or was dropped has its last failure as the cause; elsewhere causes are the driver's.
        cause = error.__cause__ if isinstance(error, DroppedError | ExpiredError) else None
        text = self._named(error) + (f", after {self._named(cause)}" if cause is not None else "")
        return self._redact(text)

    def _named(self, error: BaseException) -> str:
        if isinstance(error, DroppedError):
            return self.dropped_reason if error.reason == "stopped" else error.reason
        return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _is_unsent(outcome: Outcome) -> bool:
    """Whether a delivery ended only because the command did."""
    return isinstance(outcome.error, DroppedError) and outcome.error.reason == "stopped"
