"""The times at which waiting deliveries expire, as the mailbox keeps them."""

from __future__ import annotations

from deliveries import make_delivery

from rambla_py.delivery import LiveDelivery
from rambla_py.policy import Policy
from rambla_py.runtime.target.expiries import Expiries


def expiring(expires_s: float | None, accepted_at: float = 0.0) -> LiveDelivery:
    return make_delivery(policy=Policy(expires_s=expires_s), accepted_at=accepted_at)


def add_new(expiries: Expiries, delivery: LiveDelivery) -> None:
    add = expiries.appender(delivery.policy.expires_s)
    if add is not None:
        add(delivery)


def test_those_that_expired_are_taken_in_the_order_of_their_end() -> None:
    """Queues of one ``expires_s`` and the heap of old ones give one order, and each delivery once."""
    waiting: set[LiveDelivery] = set()
    expiries = Expiries(waiting)
    long, short, never, retried = expiring(9.0), expiring(3.0, 1.0), expiring(None), expiring(5.0)
    waiting.update((long, short, never, retried))
    for delivery in (long, short, never):
        add_new(expiries, delivery)
    for delivery in (retried, short):  # one was put back, and is known twice
        expiries.add(delivery)
    assert expiries.next_at() == 4.0
    assert expiries.take(3.9) == []
    assert expiries.take(9.0) == [short, retried, long]
    assert expiries.next_at() == float("inf")


def test_those_that_left_are_passed_over() -> None:
    """What was delivered meanwhile neither expires nor sets the next time."""
    waiting: set[LiveDelivery] = set()
    expiries = Expiries(waiting)
    first, second = expiring(3.0), expiring(3.0, 1.0)
    waiting.add(second)
    for delivery in (first, second):
        add_new(expiries, delivery)
    assert expiries.first_at() == 3.0
    assert expiries.next_at() == 4.0
    assert expiries.take(3.5) == []
    assert expiries.take(4.0) == [second]


def test_a_thousand_different_times_are_kept_in_one_heap() -> None:
    """A deadline for each message does not make a queue for each of them."""
    waiting = {expiring(float(at + 1)) for at in range(1_000)}
    expiries = Expiries(waiting)
    for delivery in waiting:
        add_new(expiries, delivery)
    assert len(expiries.spans) <= 16
    assert len(expiries) == 1_000
    assert [one.policy.expires_s for one in expiries.take(10.0)] == [float(at + 1) for at in range(10)]


def test_what_ended_is_forgotten() -> None:
    """Entries of deliveries that left, at the head and in between, do not pile up."""
    kept = [expiring(3.0, float(at)) for at in range(10)]
    expiries = Expiries(set(kept))
    for at in range(100):
        for delivery in (expiring(3.0), kept[at // 10] if at % 10 == 0 else expiring(3.0)):
            add_new(expiries, delivery)
        expiries.add(expiring(7.0))
    expiries.compact(20)
    assert len(expiries) == 10
    assert expiries.take(100.0) == kept
