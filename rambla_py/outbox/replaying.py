"""Replay and removal of dead letters, in steps that can be interrupted and repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from rambla_py.outbox.dead import DeadLetters, Selected
from rambla_py.outbox.editing import Edit, edited
from rambla_py.outbox.resending import Resending
from rambla_py.outbox.rows import Letter, Row

__all__ = ["Move", "Refused", "Replay", "drop", "in_steps", "replay", "sleep"]

Move = Callable[[int], Sequence[Row]]
"""Moves letters to a share of the journal, and returns the rows."""

_STEP_S: Final = 0.1
_MOST: Final = 500
"""Letters of one transaction, at most: others write in between."""


class Refused(msgspec.Struct, frozen=True):
    """A selected letter that was not replayed, and why: ``already replayed``, ``gone``, or its payload."""

    id: str
    reason: str


class Replay(msgspec.Struct, frozen=True):
    """What became of a selection: ``selected`` letters at ``as_of``, seconds since the epoch.

    Letters that are neither replayed nor refused are dead letters still: the replay was interrupted.
    """

    as_of: float
    selected: int
    replayed: int = 0
    refused: tuple[Refused, ...] = ()

    @property
    def left(self) -> int:
        """How many were left as they are."""
        return self.selected - self.replayed - len(self.refused)


def sleep(seconds: float) -> bool:
    """Wait, and return False."""
    time.sleep(seconds)
    return False


def _for_any_process(move: Move) -> None:
    move(0)


def replay(
    letters: DeadLetters,
    selected: Selected,
    *,
    edit: Edit = Edit(),  # noqa: B008 - frozen
    check: Callable[[Row], str | None] = lambda row: None,
    rate_per_s: float = 100.0,
    deliver: Callable[[Move], None] = _for_any_process,
    resending: Resending | None = None,
    wait: Callable[[float], bool] = sleep,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Replay]:
    """Move selected letters back to the journal as rows; yield the result so far at each step.

    A step is one transaction. ``check`` returns why a row cannot be stored, or None. ``deliver`` is called
    with a function that moves the letters of a step to a share of the journal, and returns the rows; by
    default that is the share of rows that any process delivers. ``resending`` publishes those of
    channels that are not durable, whose letters are removed afterwards. ``wait`` is called between steps,
    with seconds; it returns whether to stop, as ``threading.Event.wait`` does. What is left after an
    interruption is moved by the next replay. Raises ``OutboxError``.
    """
    refused = [Refused(id_, reason) for id_, reason in selected.missing.items()]
    number = len(selected.letters) + len(refused)
    done, began = 0, monotonic()
    yield Replay(selected.as_of, number, 0, tuple(refused))
    for letters_of_step in _steps(selected.letters, max(1, min(_MOST, int(rate_per_s * _STEP_S)))):
        if wait(max(0.0, done / rate_per_s - (monotonic() - began))):
            return
        step = _Step(letters, letters_of_step, resending)
        step.prepare(edit, check, clock())
        deliver(step.move)
        step.resend()
        done += len(step.moved)
        refused += step.refused()
        yield Replay(selected.as_of, number, done, tuple(refused))


def drop(letters: DeadLetters, selected: Selected) -> int:
    """Remove selected letters; return how many were there. Raises ``OutboxError``."""
    return sum(len(step) - len(letters.drop(list(step))) for step in _steps(selected.letters, _MOST))


def in_steps(letters: DeadLetters, selected: Selected) -> Iterator[Letter]:
    """Yield the selected letters that are still there, in order. Raises ``OutboxError``."""
    for step in _steps(selected.letters, _MOST):
        yield from letters.read(list(step))


class _Step:
    """The letters that are moved in one transaction."""

    def __init__(self, letters: DeadLetters, step: Mapping[int, str], resending: Resending | None) -> None:
        self._letters, self._step, self._resending = letters, step, resending
        self._moves: list[tuple[int, Row]] = []
        self._plain: list[tuple[int, Row]] = []
        self._wrong: dict[int, str] = {}
        self.moved: dict[int, Row] = {}

    def prepare(self, edit: Edit, check: Callable[[Row], str | None], now: float) -> None:
        """Make the rows, before anything is written."""
        for letter in self._letters.read(list(self._step)):
            number = letter.row.seq
            try:
                row = edited(letter, edit, now)
                reason = check(row)
            except ValueError as error:
                reason = str(error)
            if reason is not None:
                self._wrong[number] = reason
            elif self._resending is not None and self._resending.takes(row):
                self._plain.append((number, row))
            else:
                self._moves.append((number, row))

    def move(self, share: int) -> list[Row]:
        """Move the letters, and return their rows."""
        for _, row in self._moves:
            row.share = share
        absent = set(self._letters.move(self._moves)) if self._moves else set()
        self.moved = {number: row for number, row in self._moves if number not in absent}
        return list(self.moved.values())

    def resend(self) -> None:
        """Publish the messages of channels that are not durable, and remove their letters."""
        if self._resending is None or not self._plain:
            return
        reasons = self._resending.send(self._plain)
        ended = [number for number, reason in reasons.items() if reason is None]
        self._letters.drop(ended, replayed=True)
        rows = dict(self._plain)
        self.moved |= {number: rows[number] for number in ended}
        self._wrong |= {number: reason for number, reason in reasons.items() if reason is not None}

    def refused(self) -> list[Refused]:
        """Return the letters that were not moved."""
        missing = self._step.keys() - self._wrong.keys() - self.moved.keys()
        reasons = {**self._wrong, **(self._letters.absent(sorted(missing)) if missing else {})}
        return [Refused(self._step[number], reasons[number]) for number in sorted(reasons)]


def _steps(letters: Mapping[int, str], size: int) -> Iterator[Mapping[int, str]]:
    items = list(letters.items())
    for at in range(0, len(items), size):
        yield dict(items[at : at + size])
