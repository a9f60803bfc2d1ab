"""Waking a few workers at a time: none is forgotten, and never too many wait for their turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rambla_py.runtime.target.wakeup import _MOST_AT_ONCE, WakeLimiter


class Sleeper:
    def __init__(self) -> None:
        self.roused = 0

    def wake_now(self) -> None:
        self.roused += 1


def test_those_that_are_few_are_woken_at_once() -> None:
    """Nothing is between a publisher and a single worker."""
    wake_limiter, sleepers = WakeLimiter(), [Sleeper() for _ in range(_MOST_AT_ONCE)]
    for sleeper in sleepers:
        wake_limiter.wake(sleeper)
    assert [sleeper.roused for sleeper in sleepers] == [1] * _MOST_AT_ONCE


@given(st.lists(st.integers(0, 40), min_size=1, max_size=100), st.randoms(use_true_random=False))
def test_everyone_is_woken_in_turn_and_never_too_many_wait(order: list[int], random: object) -> None:
    """Each wake is a turn in the end, and no more than the bound have been woken and not begun."""
    wake_limiter, sleepers = WakeLimiter(), [Sleeper() for _ in range(41)]
    begun = [0] * 41
    for at in order:
        wake_limiter.wake(sleepers[at])
        waiting = [n for n, sleeper in enumerate(sleepers) if sleeper.roused > begun[n]]
        assert len(waiting) <= _MOST_AT_ONCE
        if random.random() < 0.4 and waiting:  # type: ignore[attr-defined]
            chosen = random.choice(waiting)  # type: ignore[attr-defined]
            begun[chosen] = sleepers[chosen].roused
            wake_limiter.started(sleepers[chosen])
    while waiting := [n for n, sleeper in enumerate(sleepers) if sleeper.roused > begun[n]]:
        assert len(waiting) <= _MOST_AT_ONCE
        begun[waiting[0]] = sleepers[waiting[0]].roused
        wake_limiter.started(sleepers[waiting[0]])
    assert [sleeper.roused for sleeper in sleepers] == [order.count(n) for n in range(41)]
    assert not wake_limiter._due
    assert not wake_limiter._woken


def test_one_that_will_never_run_makes_way() -> None:
    """A worker that ended before its turn does not hold up the others."""
    wake_limiter, sleepers = WakeLimiter(), [Sleeper() for _ in range(_MOST_AT_ONCE + 1)]
    for sleeper in sleepers:
        wake_limiter.wake(sleeper)
    assert sleepers[-1].roused == 0
    wake_limiter.started(sleepers[0])
    assert sleepers[-1].roused == 1
