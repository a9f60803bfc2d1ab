"""The accounts of a target, and flushes that wait for them."""

from __future__ import annotations

from deliveries import make_delivery

from rambla_py.delivery import Delivery
from rambla_py.runtime.target.counters import Counters


def accept(counters: Counters, number: int) -> list[Delivery]:
    deliveries = [make_delivery() for _ in range(number)]
    for delivery in deliveries:
        delivery.seq = next(counters.numbers)
    return deliveries


def test_looking_does_not_change_the_count() -> None:
    """Reading the number of accepted deliveries does not change it."""
    counters = Counters()
    accept(counters, 3)
    assert [counters.accepted(), counters.accepted()] == [3, 3]
    accept(counters, 2)
    assert counters.accepted() == 5


def test_a_flush_waits_for_what_was_accepted_before_it() -> None:
    """Deliveries accepted later do not delay it, and do not count in place of earlier ones."""
    counters, woken = Counters(), []
    early = accept(counters, 2)
    counters.when_flushed(lambda: woken.append(True))
    late = accept(counters, 2)
    counters.ended(late)
    counters.ended(early[:1])
    assert not woken
    counters.ended(early[1:])
    assert woken == [True]


def test_two_flushes_have_marks_of_their_own() -> None:
    """The first returns with the first message, the second with the second."""
    counters, woken = Counters(), []
    first = accept(counters, 1)
    counters.when_flushed(lambda: woken.append("first"))
    second = accept(counters, 1)
    counters.when_flushed(lambda: woken.append("second"))
    counters.ended(first)
    assert woken == ["first"]
    counters.ended(second)
    assert woken == ["first", "second"]


def test_nothing_accepted_is_flushed_at_once() -> None:
    """There is nothing to wait for, also after all has ended."""
    counters, woken = Counters(), []
    counters.when_flushed(lambda: woken.append(1))
    counters.ended(accept(counters, 3))
    counters.when_flushed(lambda: woken.append(2))
    assert woken == [1, 2]


def test_a_forgotten_flush_is_not_woken() -> None:
    """A flush that stopped waiting is not woken."""
    counters, woken = Counters(), []
    deliveries = accept(counters, 1)

    def wake() -> None:
        woken.append(1)

    counters.when_flushed(wake)
    counters.forget_flush(wake)
    counters.ended(deliveries)
    assert not woken
