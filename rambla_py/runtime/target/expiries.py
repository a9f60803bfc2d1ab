"""Expiry times of the waiting deliveries of one target."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery

__all__ = ["Expiries"]

_MOST_SPANS = 16
_NEVER = float("inf")


class Expiries:
    """The deliveries of a mailbox by expiry time.

    New deliveries with the same ``expires_s`` expire in the order of acceptance, so ``spans`` has a queue for
    each ``expires_s``; a heap has the others. ``waiting`` is the set of deliveries in the mailbox; entries
    that have left it are stale, and skipped. Not thread-safe by itself.
    """

    def __init__(self, waiting: Collection[LiveDelivery]) -> None:
        self._waiting = waiting
        self.spans: dict[float, deque[LiveDelivery]] = {}
        self._heap: list[tuple[float, int, LiveDelivery]] = []
        self._ties = itertools.count()

    def __len__(self) -> int:
        return len(self._heap) + sum(map(len, self.spans.values()))

    def appender(self, expires_s: float | None) -> Callable[[LiveDelivery], None] | None:
        """Return what adds new deliveries with this ``expires_s`` and no delay; None if they never expire.

        A delivery is added after those that were accepted before it.
        """
        if expires_s is None:
            return None
        if expires_s not in self.spans:
            if len(self.spans) >= _MOST_SPANS:
                return self.add
            self.spans[expires_s] = deque()
        return self.spans[expires_s].append

    def add(self, delivery: LiveDelivery) -> None:
        """Add a delivery, whenever it was accepted."""
        expires_at = delivery.expires_at
        if expires_at is not None:
            heapq.heappush(self._heap, (expires_at, next(self._ties), delivery))

    def take(self, now: float) -> list[LiveDelivery]:
        """Take the deliveries that have expired, in the order of expiry."""
        found: dict[LiveDelivery, float] = {}
        while self._heap and self._heap[0][0] <= now:
            expired_at, _, delivery = heapq.heappop(self._heap)
            if delivery in self._waiting:
                found[delivery] = expired_at
        for expires_s, span in self.spans.items():
            while span and (span[0] not in self._waiting or span[0].accepted_at + expires_s <= now):
                delivery = span.popleft()
                if delivery in self._waiting:
                    found[delivery] = delivery.accepted_at + expires_s
        return sorted(found, key=found.__getitem__)

    def first_at(self) -> float:
        """Return a time before which none expires."""
        spans = (span[0].accepted_at + expires_s for expires_s, span in self.spans.items() if span)
        return min(self._heap[0][0] if self._heap else _NEVER, min(spans, default=_NEVER))

    def next_at(self) -> float:
        """Return when the next one expires."""
        while self._heap and self._heap[0][2] not in self._waiting:
            heapq.heappop(self._heap)
        for span in self.spans.values():
            self._skip_stale(span)
        return self.first_at()

    def compact(self, bound: int) -> None:
        """Remove stale entries from what has more than ``bound``."""
        if len(self._heap) > bound:
            self._heap = [entry for entry in self._heap if entry[2] in self._waiting]
            heapq.heapify(self._heap)
        for expires_s, span in self.spans.items():
            if len(span) > bound:
                self._skip_stale(span)
                if len(span) > bound:
                    self.spans[expires_s] = deque(self._live(span))

    def clear(self) -> None:
        """Remove everything."""
        self._heap.clear()
        self.spans.clear()

    def _skip_stale(self, span: deque[LiveDelivery]) -> None:
        while span and span[0] not in self._waiting:
            span.popleft()

    def _live(self, span: deque[LiveDelivery]) -> Iterator[LiveDelivery]:
        return (delivery for delivery in span if delivery in self._waiting)
