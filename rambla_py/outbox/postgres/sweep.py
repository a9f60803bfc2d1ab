"""Looks for late rows: a few buckets at a time when the server takes long over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from rambla_py.outbox.postgres.tables import BUCKETS

__all__ = ["Sweep"]

_LOOK_S: Final = 0.05
"""What one statement may take, about; publishers and removals wait for it."""


class Sweep:
    """Which buckets to look through next for late rows of one target.

    While a transaction stays open the server keeps every row that was removed since, and has to pass it by
    again at each look: after a million of them that takes seconds. A look that took long is followed by one
    at fewer buckets, and each sweep through all of them continues where the last look ended.

    >>> sweep = Sweep(poll_s=1.0)
    >>> list(sweep.next([3, 5, 8, 9], now=10.0))
    [3, 5, 8, 9]
    >>> sweep.looked([3, 5, 8, 9], [3, 5, 8, 9], took_s=0.2, now=10.0)
    >>> sweep.next([3, 5, 8, 9], now=10.5), sweep.next([3, 5, 8, 9], now=11.0)
    ([], [3, 5])
    """

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s
        # Not 0.0: the clock may begin at the machine's start.
        self._due = -math.inf
        self._size = BUCKETS
        self._seen: set[int] = set()

    def next(self, buckets: Sequence[int], now: float) -> Sequence[int]:
        """Return which of the buckets that are held to look at; none until the next sweep is due."""
        if now < self._due:
            return []
        left = [bucket for bucket in buckets if bucket not in self._seen]
        if not left:  # those that were left have been lost
            self._end(now)
        return left[: self._size]

    def looked(self, chosen: Sequence[int], buckets: Sequence[int], *, took_s: float, now: float) -> None:
        """Record a look at ``chosen``, all of whose late rows were taken, which began at ``now``."""
        self._seen.update(chosen)
        if self._seen.issuperset(buckets):
            self._end(now)
        if took_s > _LOOK_S:
            self._size = max(1, len(chosen) // 2)
        elif took_s < _LOOK_S / 2:
            self._size = min(BUCKETS, 2 * self._size)

    def _end(self, began: float) -> None:
        self._seen.clear()
        self._due = began + self._poll_s

    def again(self) -> None:
        """Begin a sweep through all buckets."""
        self._seen.clear()
        self._due = -math.inf
