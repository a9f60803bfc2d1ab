"""Waking a few workers at a time: none is forgotten, and never too many wait for their turn."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rambla_py.actors.wakes import _MOST, Wakes


class Sleeper:
    def __init__(self) -> None:
        self.roused = 0

    def rouse(self) -> None:
        self.roused += 1


def test_those_that_are_few_are_woken_at_once() -> None:
    """Nothing is between a publisher and a single worker."""
    wakes, sleepers = Wakes(), [Sleeper() for _ in range(_MOST)]
    for sleeper in sleepers:
        wakes.wake(sleeper)
    assert [sleeper.roused for sleeper in sleepers] == [1] * _MOST


@given(st.lists(st.integers(0, 40), min_size=1, max_size=100), st.randoms(use_true_random=False))
def test_everyone_is_woken_in_turn_and_never_too_many_wait(order: list[int], random: object) -> None:
    """Each wake is a turn in the end, and no more than the bound have been woken and not begun."""
    wakes, sleepers = Wakes(), [Sleeper() for _ in range(41)]
    begun = [0] * 41
    for at in order:
        wakes.wake(sleepers[at])
        waiting = [n for n, sleeper in enumerate(sleepers) if sleeper.roused > begun[n]]
        assert len(waiting) <= _MOST
        if random.random() < 0.4 and waiting:  # type: ignore[attr-defined]
            chosen = random.choice(waiting)  # type: ignore[attr-defined]
            begun[chosen] = sleepers[chosen].roused
            wakes.begun(sleepers[chosen])
    while waiting := [n for n, sleeper in enumerate(sleepers) if sleeper.roused > begun[n]]:
        assert len(waiting) <= _MOST
        begun[waiting[0]] = sleepers[waiting[0]].roused
        wakes.begun(sleepers[waiting[0]])
    assert [sleeper.roused for sleeper in sleepers] == [order.count(n) for n in range(41)]
    assert not wakes._due
    assert not wakes._woken


def test_one_that_will_never_run_makes_way() -> None:
    """A worker that ended before its turn does not hold up the others."""
    wakes, sleepers = Wakes(), [Sleeper() for _ in range(_MOST + 1)]
    for sleeper in sleepers:
        wakes.wake(sleeper)
    assert sleepers[-1].roused == 0
    wakes.begun(sleepers[0])
    assert sleepers[-1].roused == 1
