"""Histograms of the times of deliveries."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery

__all__ = ["ATTEMPT_BOUNDS_S", "DELIVERY_BOUNDS_S", "Histogram", "Times"]

# OpenTelemetry's semantic conventions 1.44.0 for messaging durations.
ATTEMPT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
DELIVERY_BOUNDS_S = (*ATTEMPT_BOUNDS_S, 30.0, 60.0, 300.0)


class Histogram:
    """Counts of durations up to each bound, in seconds, and one count for longer ones."""

    __slots__ = ("bounds", "counts", "sum_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def add(self, duration_s: float, number: int = 1) -> None:
        """Count ``number`` durations of the same length."""
        bucket = 0 if duration_s <= self.bounds[0] else bisect_left(self.bounds, duration_s)
        self.counts[bucket] += number
        self.sum_s += duration_s * number

    def add_until(self, end: float, starts: Sequence[float]) -> None:
        """Count the durations from each of ``starts``, which are in ascending order, to ``end``."""
        bounds, counts = self.bounds, self.counts
        shortest = bisect_left(bounds, end - starts[-1])
        longest = bisect_left(bounds, end - starts[0])
        longer = len(starts)
        for bucket in range(shortest, longest):
            longer_than_bound = bisect_left(starts, end - bounds[bucket])
            counts[bucket] += longer - longer_than_bound
            longer = longer_than_bound
        counts[longest] += longer
        self.sum_s += end * len(starts) - sum(starts)


class Times:
    """Durations of deliveries. Not thread-safe by itself.

    ``delivery``: from acceptance to success. ``queue``: from acceptance to the start of the attempt that
    succeeded. ``attempt``: each attempt, including failed ones.
    """

    __slots__ = ("attempt", "delivery", "queue")

    def __init__(self) -> None:
        self.delivery = Histogram(DELIVERY_BOUNDS_S)
        self.queue = Histogram(DELIVERY_BOUNDS_S)
        self.attempt = Histogram(ATTEMPT_BOUNDS_S)

    def succeeded(
        self, deliveries: Sequence[LiveDelivery], now: float, started_at: float | None = None
    ) -> None:
        """Count the durations of deliveries that succeeded now.

        ``started_at`` is when their common attempt began; None if each had its own.
        """
        if len(deliveries) == 1:
            (one,) = deliveries
            self.delivery.add(now - one.accepted_at)
            self.queue.add(one.started_at - one.accepted_at)
            self.attempt.add(now - one.started_at)
            return
        # Sorting is the fastest way to the extremes, because they are usually sorted already.
        accepted = sorted([delivery.accepted_at for delivery in deliveries])
        self.delivery.add_until(now, accepted)
        if started_at is None:
            started = sorted([delivery.started_at for delivery in deliveries])
            if started[0] != started[-1]:
                waits = sorted([delivery.accepted_at - delivery.started_at for delivery in deliveries])
                self.queue.add_until(0.0, waits)
                self.attempt.add_until(now, started)
                return
            started_at = started[0]
        self.queue.add_until(started_at, accepted)
        self.attempt.add(now - started_at, len(accepted))
