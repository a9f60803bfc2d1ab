"""What is to be written to the journal beside new rows, collected until the next commit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from rambla_py.outbox.journal import Changes
from rambla_py.outbox.rows import Letter, Row
from rambla_py.outcome import Status

__all__ = ["Pending"]

Proceed = Callable[[], None]
Buried = tuple[Letter, Proceed, Proceed]

T = TypeVar("T")


class Pending:
    """Rows that have ended, dead letters, and progress; added from any thread, without a lock.

    ``take`` and ``written`` are for the writer of the journal. What was taken is taken again until it is
    written; an exception from a signal handler, at any point, neither loses nor doubles it. What follows a
    dead letter waits until the letter is stored.
    """

    def __init__(self) -> None:
        self._ended: deque[tuple[Row, Status]] = deque()
        self._letters: deque[Buried] = deque()
        self._progress: deque[tuple[int, tuple[bytes, float | None, float]]] = deque()
        self._taken_ended: deque[tuple[Row, Status]] = deque()
        self._taken_letters: deque[Buried] = deque()
        self._taken_progress: deque[tuple[int, tuple[bytes, float | None, float]]] = deque()

    def __bool__(self) -> bool:
        return bool(
            (self._ended or self._letters or self._progress)
            or (self._taken_ended or self._taken_letters or self._taken_progress)
        )

    @property
    def letters(self) -> int:
        """How many dead letters are not stored yet."""
        return len(self._letters) + len(self._taken_letters)

    def end(self, rows: Iterable[tuple[Row, Status]]) -> None:
        """Remove rows at the next commit."""
        self._ended.extend(rows)

    def bury(self, letter: Letter, proceed: Proceed, keep: Proceed) -> None:
        """Store a dead letter at the next commit, then call ``proceed``; ``keep`` if there is none."""
        self._letters.append((letter, proceed, keep))

    def progress(self, seq: int, progress: bytes, due: float | None, wait_s: float) -> None:
        """Replace the progress of a row at the next commit."""
        self._progress.append((seq, (progress, due, wait_s)))

    def take(self) -> Changes:
        """Return what has come together and is not written yet."""
        _move(self._ended, self._taken_ended)
        _move(self._letters, self._taken_letters)
        _move(self._progress, self._taken_progress)
        return Changes(
            ended=list(self._taken_ended),
            dead=[letter for letter, _, _ in self._taken_letters],
            progress=dict(self._taken_progress),
        )

    def written(self) -> None:
        """Forget what was taken, which is stored now; continue with what waited for dead letters."""
        self._taken_ended.clear()
        self._taken_progress.clear()
        while self._taken_letters:
            letter, proceed, _ = self._taken_letters.popleft()
            letter.row.leave()
            proceed()

    def give_up(self) -> None:
        """Leave in the journal what should have become dead letters: there is no other commit."""
        for letters in (self._taken_letters, self._letters):
            while letters:
                _, _, keep = letters.popleft()
                keep()


def _move(queue: deque[T], taken: deque[T]) -> None:
    """Move all of a queue, to which other threads add; complete a move that was interrupted."""
    while queue:
        first = queue[0]
        if not taken or taken[-1] is not first:
            taken.append(first)
        queue.popleft()
