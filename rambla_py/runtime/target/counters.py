"""Counters of one target: accepted and ended deliveries, attempts, losses."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from rambla_py.errors import describe
from rambla_py.outcome import STATUSES, Status
from rambla_py.runtime.target.histograms import Times

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.delivery_history import Stored

__all__ = ["Counters"]


class _Flush:
    """One flush of a target: ``left`` of ``total`` deliveries have not ended.

    While it is ``reading``, rows are looked for that were stored before it began: what is adopted until then
    is waited for, too.
    """

    __slots__ = ("last_adoption", "last_row", "left", "mark", "reading", "total", "wake")

    def __init__(
        self,
        mark: int,
        last_row: int,
        last_adoption: int,
        left: int,
        wake: Callable[[], None],
        *,
        reading: bool,
    ) -> None:
        self.mark, self.last_row, self.last_adoption = mark, last_row, last_adoption
        self.left = self.total = left
        self.wake, self.reading = wake, reading

    @property
    def over(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.left <= 0 and not self.reading

    def adopt(self, adoption: int, number: int) -> None:
        """Wait for deliveries of the outbox, too, if they may be of the time before."""
        if self.reading:
            self.last_adoption = adoption
            self.left += number
            self.total += number

    def ended(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Count down deliveries that were accepted before the flush began."""
        self.left -= sum(
            [
                one.seq <= self.mark if one.stored is None else self._counts_row(one.stored)
                for one in deliveries
            ]
        )

    def _counts_row(self, stored: Stored) -> bool:
        if stored.adoption:
            return stored.adoption <= self.last_adoption
        seq: int = abs(stored.row.seq)  # negative once it is removed
        return seq <= self.last_row


class Counters:
    """Counts accepted deliveries without a lock, and ended ones with one lock a batch.

    ``in_outbox`` are durable deliveries that are accepted and not in memory. ``numbers`` gives each other
    accepted delivery its sequence number; ``next`` on it is atomic, and its value tells how many were
    accepted. ``times`` is None where no histograms are kept. ``last_ok`` and ``last_failure`` are on the
    monotonic clock.
    """

    def __init__(
        self, error_text: Callable[[BaseException | None], str] = describe, *, histograms: bool = True
    ) -> None:
        self._error_text = error_text
        self.numbers = itertools.count()
        self.statuses: dict[Status, int] = dict.fromkeys(STATUSES, 0)
        self.reasons: Counter[str] = Counter()
        self.times = Times() if histograms else None
        self.batches = 0
        self.refused = 0
        self.lost_connections = 0
        self.restarts = 0
        self.last_ok: float | None = None
        self.last_failure: float | None = None
        self.last_error: str | None = None
        self.last_error_type: str | None = None
        # Reentrant: a signal handler or a finalizer may publish while its own thread holds it.
        self._lock = threading.RLock()
        self._peeks = 0
        self._ended = 0
        self._unnumbered = 0
        self._last_row = self._adoptions = 0
        self.in_outbox = 0
        self._flushes: list[_Flush] = []

    def accepted(self) -> int:
        """Return how many deliveries have been accepted."""
        with self._lock:
            return self._accepted()

    def store(self, last_row: int) -> None:
        """Record the number of the last row that this process stored; by the writer of the outbox only."""
        self._last_row = last_row

    def spill(self, number: int) -> None:
        """Count accepted deliveries that stay in the outbox for want of room."""
        with self._lock:
            self._unnumbered += number
            self.in_outbox += number

    def adopt(self, number: int) -> int:
        """Count deliveries of the outbox that were stored earlier, or by another process.

        Returns the number of this adoption, for their ``Stored``.
        """
        with self._lock:
            self._unnumbered += number
            self.in_outbox += number
            self._adoptions += 1
            for flush in self._flushes:
                flush.adopt(self._adoptions, number)
            return self._adoptions

    def feed(self, number: int) -> None:
        """Count deliveries that come from the outbox into the mailbox."""
        with self._lock:
            self.in_outbox -= number

    def keep(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Count deliveries that stay in the outbox; nothing waits for them any more."""
        with self._lock:
            self.in_outbox += len(deliveries)
        self.ended(deliveries)

    def add_batch(self) -> None:
        """Count a batch that is passed to the handler."""
        with self._lock:
            self.batches += 1

    def refuse(self, number: int) -> None:
        """Count publishes that raised ``MailboxFullError``."""
        with self._lock:
            self.refused += number

    def lose_connection(self) -> None:
        """Count a lost connection."""
        with self._lock:
            self.lost_connections += 1

    def restart(self, number: int = 1) -> None:
        """Count workers or external servers that died and are replaced."""
        with self._lock:
            self.restarts += number

    def fail_attempt(self, took_s: float) -> None:
        """Count the duration of an attempt that failed, was lost, or has an unknown outcome."""
        with self._lock:
            if self.times is not None:
                self.times.attempt.add(took_s)

    def succeed(
        self, deliveries: Sequence[LiveDelivery], now: float, started_at: float | None = None
    ) -> None:
        """Count a batch that succeeded now, before its receipts are settled."""
        with self._lock:
            self.statuses["ok"] += len(deliveries)
            self.last_ok = now
            if self.times is not None:
                self.times.succeeded(deliveries, now, started_at)

    def count(self, status: Status, number: int = 1, reason: str | None = None) -> None:
        """Count ended deliveries, before their receipts are settled: counters never lag behind a receipt."""
        with self._lock:
            self.statuses[status] += number
            if reason is not None:
                self.reasons[reason] += number

    def note(self, reason: str, error: BaseException | None = None) -> None:
        """Count a failed attempt, a loss, or a callback that raised."""
        with self._lock:
            self.reasons[reason] += 1
            if error is not None:
                # The text, not the error, which may keep the message alive through its traceback.
                self.last_error, self.last_failure = self._error_text(error), time.monotonic()
                self.last_error_type = type(error).__name__

    def ended(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Count deliveries whose receipts are settled, and notify flushes that wait for them."""
        with self._lock:
            self._ended += len(deliveries)
            if not self._flushes:
                return
            for flush in self._flushes:
                flush.ended(deliveries)
            over = [flush for flush in self._flushes if flush.over]
            self._flushes = [flush for flush in self._flushes if not flush.over]
        for flush in over:
            flush.wake()

    def when_flushed(self, wake: Callable[[], None], *, reading: bool = False) -> _Flush:
        """Call ``wake`` once everything accepted so far has ended; ``left`` counts what has not.

        With ``reading``, not before ``read`` was called, and what is adopted until then has ended as well.
        """
        with self._lock:
            accepted = self._accepted()
            # The number drawn to read the count serves as the mark, because no delivery has it.
            mark = accepted - self._unnumbered + self._peeks - 1
            left = accepted - self._ended
            flush = _Flush(mark, self._last_row, self._adoptions, left, wake, reading=reading)
            if not flush.over:
                self._flushes.append(flush)
                return flush
        wake()
        return flush

    def read(self, flush: _Flush) -> None:
        """Record that everything that was stored before a flush began is adopted."""
        with self._lock:
            flush.reading = False
            over = flush.over and flush in self._flushes
            if over:
                self._flushes = [one for one in self._flushes if one is not flush]
        if over:
            flush.wake()

    @property
    def flushing(self) -> bool:
        """Whether a flush waits for deliveries of this target."""
        return bool(self._flushes)

    def forget_flush(self, wake: Callable[[], None]) -> None:
        """Stop waiting."""
        with self._lock:
            self._flushes = [flush for flush in self._flushes if flush.wake != wake]

    def _accepted(self) -> int:
        self._peeks += 1
        return next(self.numbers) - self._peeks + 1 + self._unnumbered
