"""Looks for late rows of an outbox in PostgreSQL: every bucket in turn, few at a time on a slow server."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rambla_py.outbox.postgres.sweep import Sweep

BUCKETS = list(range(64))


def sweep_of(sweep: Sweep, bucket_s: float, now: float) -> list[int]:
    """Look until a sweep is over, at that many seconds a bucket; return how many each look was at."""
    looks: list[int] = []
    seen: list[int] = []
    while chosen := sweep.next(BUCKETS, now):
        looks.append(len(chosen))
        seen += chosen
        sweep.looked(chosen, BUCKETS, took_s=bucket_s * len(chosen), now=now)
    assert sorted(seen) == BUCKETS
    return looks


def test_a_fast_server_is_asked_once() -> None:
    """One look at all buckets, and the next after ``poll_s``."""
    sweep = Sweep(poll_s=1.0)
    assert sweep_of(sweep, 1e-5, now=5.0) == [64]
    assert not sweep.next(BUCKETS, 5.9)
    assert sweep_of(sweep, 1e-5, now=6.0) == [64]


def test_a_slow_server_is_asked_for_few_buckets_at_a_time() -> None:
    """Half as many after each look of more than 50 ms, down to one; a server that is fast again gets all."""
    sweep = Sweep(poll_s=0.5)
    assert sweep_of(sweep, 0.02, now=0.0) == [64]
    assert sweep_of(sweep, 0.02, now=1.0) == [32, 16, 8, 4, 2, 2]
    assert sweep_of(sweep, 0.02, now=2.0) == [2] * 32
    assert sweep_of(sweep, 0.2, now=3.0) == [2] + [1] * 62
    assert sweep_of(sweep, 1e-5, now=4.0) == [1, 2, 4, 8, 16, 32, 1]
    assert sweep_of(sweep, 1e-5, now=5.0) == [64]


def test_rows_that_were_given_back_are_found_at_once() -> None:
    """Whichever bucket has them: in the middle of a sweep, it begins again."""
    sweep = Sweep(poll_s=10.0)
    sweep.looked(BUCKETS[:32], BUCKETS, took_s=1.0, now=0.0)
    sweep.again()
    assert sorted(sweep_of(sweep, 1e-5, now=0.0)) != []


@given(st.lists(st.tuples(st.sets(st.integers(0, 63)), st.floats(0, 1)), max_size=60))
def test_no_bucket_is_left_out(steps: list[tuple[set[int], float]]) -> None:
    """Whatever is held, lost and taken meanwhile: a sweep is over when each held bucket was looked at in it."""
    sweep, seen = Sweep(poll_s=1.0), set[int]()
    for at, (held, took_s) in enumerate(steps):
        now = 2.0 * at
        chosen = sweep.next(sorted(held), now)
        assert set(chosen) <= held - seen
        assert bool(chosen) == bool(held - seen)
        if chosen:
            sweep.looked(chosen, sorted(held), took_s=took_s, now=now)
        seen |= set(chosen)
        if seen >= held:
            assert not sweep.next(sorted(held), now + 0.5)
            seen.clear()
