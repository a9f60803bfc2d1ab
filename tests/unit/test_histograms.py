"""Histograms of delivery times: exact, whatever the batch looks like."""

from __future__ import annotations

import pytest
from deliveries import make_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.runtime.target.histograms import ATTEMPT_BOUNDS_S, DELIVERY_BOUNDS_S, Histogram, Times

NOW = 1000.0
# Sixteenths are exact in binary, so that a duration on a bound is on it however it is computed.
AGES = st.integers(0, 6400).map(lambda sixteenths: sixteenths / 16)


def counted(bounds: tuple[float, ...], durations: list[float]) -> list[int]:
    """Count in the most obvious way."""
    edges = [*bounds, float("inf")]
    return [
        sum(low < one <= high for one in durations) for low, high in zip([-1.0, *edges], edges, strict=False)
    ]


@given(st.lists(st.tuples(AGES, AGES), min_size=1, max_size=30))
def test_a_batch_is_counted_one_by_one(pairs: list[tuple[float, float]]) -> None:
    """Deliveries that began apart, in any order and over any number of buckets."""
    times, batch = Times(), []
    for waited_s, took_s in pairs:
        batch.append(make_delivery(accepted_at=NOW - took_s - waited_s, started_at=NOW - took_s, attempts=1))
    times.succeeded(batch, NOW)
    took = [took_s for _, took_s in pairs]
    assert times.attempt.counts == counted(ATTEMPT_BOUNDS_S, took)
    assert times.queue.counts == counted(DELIVERY_BOUNDS_S, [waited_s for waited_s, _ in pairs])
    assert times.delivery.counts == counted(DELIVERY_BOUNDS_S, [sum(pair) for pair in pairs])
    assert times.attempt.sum_s == pytest.approx(sum(took))
    assert times.delivery.sum_s == pytest.approx(sum(map(sum, pairs)))


@given(st.lists(AGES, min_size=1, max_size=30), AGES)
def test_a_batch_that_began_together_has_one_start(waits: list[float], took_s: float) -> None:
    """The known start gives the same as looking it up in each delivery."""
    start = NOW - took_s
    batch = [make_delivery(accepted_at=start - waited_s, started_at=start, attempts=1) for waited_s in waits]
    known, looked_up = Times(), Times()
    known.succeeded(batch, NOW, start)
    looked_up.succeeded(batch, NOW)
    for name in ("delivery", "queue", "attempt"):
        assert getattr(known, name).counts == getattr(looked_up, name).counts
        assert getattr(known, name).sum_s == pytest.approx(getattr(looked_up, name).sum_s)


def test_a_bound_belongs_to_its_own_bucket() -> None:
    """``counts[i]`` are durations of at most ``bounds[i]``, as in Prometheus."""
    histogram = Histogram((1.0, 2.0))
    for duration_s in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.add(duration_s)
    assert histogram.counts == [2, 2, 1]
    histogram.add_until(10.0, [7.5, 8.0, 8.5, 9.0, 9.5])
    assert histogram.counts == [4, 4, 2]
