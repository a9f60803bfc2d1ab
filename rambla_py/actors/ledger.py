"""This module keeps the accounts of one target: what was accepted, and how it ended."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rambla_py.outcome import STATUSES, Status

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Ledger"]


class _Flush:
    __slots__ = ("left", "mark", "wake")

    def __init__(self, mark: int, left: int, wake: Callable[[], None]) -> None:
        self.mark, self.left, self.wake = mark, left, wake


class Ledger:
    """Counts acceptances without a lock and endings with one lock a batch.

    ``numbers`` gives each accepted delivery its sequence number; ``next`` on it is atomic, and how far it
    has come is the number of acceptances.
    """

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.statuses: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        self.reasons: Counter[str] = Counter()
        self.last_error: BaseException | None = None
        # Reentrant, for a signal handler or a finalizer may publish while its own thread is in here.
        self._lock = threading.RLock()
        self._peeks = 0
        self._ended = 0
        self._flushes: list[_Flush] = []

    def accepted(self) -> int:
        """Return how many deliveries were accepted so far."""
        with self._lock:
            return self._accepted()

    def count(self, status: Status, number: int = 1, reason: str | None = None) -> None:
        """Count endings, before their receipts are settled: who saw the receipt sees the count."""
        with self._lock:
            self.statuses[status] += number
            if reason is not None:
                self.reasons[reason] += number

    def note(self, reason: str, error: BaseException | None = None) -> None:
        """Count something that is not an ending: a failed attempt, a loss, a callback that raised."""
        with self._lock:
            self.reasons[reason] += 1
            if error is not None:
                self.last_error = error

    def ended(self, deliveries: Sequence[Delivery]) -> None:
        """Take note of deliveries whose receipts are settled; wakes those who wait for them."""
        with self._lock:
            self._ended += len(deliveries)
            if not self._flushes:
                return
            for flush in self._flushes:
                flush.left -= _up_to(flush.mark, deliveries)
            over = [flush for flush in self._flushes if flush.left <= 0]
            self._flushes = [flush for flush in self._flushes if flush.left > 0]
        for flush in over:
            flush.wake()

    def when_flushed(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once all that is accepted by now has ended; at once when it has."""
        with self._lock:
            accepted = self._accepted()
            # The number drawn to learn how many were accepted is itself the mark: none accepted has it.
            flush = _Flush(accepted + self._peeks - 1, accepted - self._ended, wake)
            if flush.left > 0:
                self._flushes.append(flush)
                return
        wake()

    def forget_flush(self, wake: Callable[[], None]) -> None:
        """Stop waiting."""
        with self._lock:
            self._flushes = [flush for flush in self._flushes if flush.wake != wake]

    def _accepted(self) -> int:
        self._peeks += 1
        return next(self.numbers) - self._peeks + 1


def _up_to(mark: int, deliveries: Sequence[Delivery]) -> int:
    return sum([delivery.seq <= mark for delivery in deliveries])
