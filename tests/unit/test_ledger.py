"""The accounts of a target, and who waits for them."""

from __future__ import annotations

from deliveries import make_delivery

from rambla_py.actors.ledger import Ledger
from rambla_py.delivery import Delivery


def accept(ledger: Ledger, number: int) -> list[Delivery]:
    deliveries = [make_delivery() for _ in range(number)]
    for delivery in deliveries:
        delivery.seq = next(ledger.numbers)
    return deliveries


def test_looking_does_not_change_the_count() -> None:
    """How many were accepted is the same however often it is asked."""
    ledger = Ledger()
    accept(ledger, 3)
    assert [ledger.accepted(), ledger.accepted()] == [3, 3]
    accept(ledger, 2)
    assert ledger.accepted() == 5


def test_a_flush_waits_for_what_was_accepted_before_it() -> None:
    """Deliveries accepted later do not hold it up, and cannot stand for earlier ones."""
    ledger, woken = Ledger(), []
    early = accept(ledger, 2)
    ledger.when_flushed(lambda: woken.append(True))
    late = accept(ledger, 2)
    ledger.ended(late)
    ledger.ended(early[:1])
    assert not woken
    ledger.ended(early[1:])
    assert woken == [True]


def test_two_flushes_have_marks_of_their_own() -> None:
    """The first returns with the first message, the second with the second."""
    ledger, woken = Ledger(), []
    first = accept(ledger, 1)
    ledger.when_flushed(lambda: woken.append("first"))
    second = accept(ledger, 1)
    ledger.when_flushed(lambda: woken.append("second"))
    ledger.ended(first)
    assert woken == ["first"]
    ledger.ended(second)
    assert woken == ["first", "second"]


def test_nothing_accepted_is_flushed_at_once() -> None:
    """There is nothing to wait for, also after all has ended."""
    ledger, woken = Ledger(), []
    ledger.when_flushed(lambda: woken.append(1))
    ledger.ended(accept(ledger, 3))
    ledger.when_flushed(lambda: woken.append(2))
    assert woken == [1, 2]


def test_a_forgotten_flush_is_not_woken() -> None:
    """Who gave up waiting is left in peace."""
    ledger, woken = Ledger(), []
    deliveries = accept(ledger, 1)

    def wake() -> None:
        woken.append(1)

    ledger.when_flushed(wake)
    ledger.forget_flush(wake)
    ledger.ended(deliveries)
    assert not woken
