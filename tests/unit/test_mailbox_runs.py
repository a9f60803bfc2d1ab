"""Which deliveries of a key a mailbox gives together, where its handler stops at the first failure."""

from __future__ import annotations

from collections.abc import Iterable

from deliveries import make_delivery

from rambla_py import Handler
from rambla_py.delivery import LiveDelivery
from rambla_py.handler_levels import takes_runs
from rambla_py.policy import Policy
from rambla_py.runtime.target.mailbox import Mailbox

DEFAULT = Policy()


def make_mailbox(*, runs: bool = True) -> Mailbox:
    return Mailbox(workers=1, max_pending=1_000, expires_s=None, runs=runs)


def put(mailbox: Mailbox, key: str | None, payloads: Iterable[object], policy: Policy = DEFAULT) -> None:
    for payload in payloads:
        mailbox.put(make_delivery(payload, key=key, policy=policy))


def take(mailbox: Mailbox, limit: int = 100) -> list[LiveDelivery]:
    return mailbox.take(0, limit, alone_ok=True)


def payloads_of(deliveries: Iterable[LiveDelivery]) -> list[object]:
    return [delivery.payload for delivery in deliveries]


def test_only_handlers_that_stop_at_a_failure_get_runs() -> None:
    """They declare it, and take a batch at once, on the worker's own thread."""

    class Batch(Handler):
        def handle_batch(self, messages: object, state: object) -> None: ...

    class Ordered(Batch):
        ordered = True

    class Async(Ordered):
        async def handle_batch(self, messages: object, state: object) -> None: ...

    class Single(Handler):
        ordered = True

        def handle_publish(self, message: object, options: object, state: object) -> None: ...

    class Deliveries(Ordered):
        def handle_deliveries(self, deliveries: object, state: object) -> None: ...

    found = [takes_runs(one) for one in (Batch, Ordered, Async, Single, Deliveries)]
    assert found == [False, True, False, False, False]


def test_a_batch_has_the_messages_of_a_key_in_order_and_only_once_at_a_time() -> None:
    """The run is held by its head: nothing else of the key is taken until that ends."""
    mailbox = make_mailbox()
    put(mailbox, "k", range(5))
    batch = take(mailbox, 3)
    assert payloads_of(batch) == [0, 1, 2]
    assert [delivery.holds_lane for delivery in batch] == [True, False, False]
    assert take(mailbox) == []
    assert mailbox.release_lanes(batch[:1]) == {0}
    assert payloads_of(take(mailbox)) == [3, 4]


def test_other_handlers_get_one_of_a_key() -> None:
    """Without runs the second waits for the end of the first."""
    mailbox = make_mailbox(runs=False)
    put(mailbox, "k", range(5))
    assert payloads_of(take(mailbox)) == [0]


def test_keys_share_a_batch() -> None:
    """A key with many messages leaves places to each of the others, and to those without a key."""
    mailbox = make_mailbox()
    put(mailbox, "many", range(50))
    put(mailbox, "few", "ab")
    put(mailbox, "one", "z")
    put(mailbox, None, ["plain"] * 50, Policy(expires_s=7.0))
    batch = take(mailbox, 18)
    assert payloads_of(one for one in batch if one.key == "many") == [0, 1, 2]
    assert payloads_of(one for one in batch if one.key not in (None, "many")) == ["a", "b", "z"]
    assert sum(one.key is None for one in batch) == 12


def test_a_callable_payload_goes_by_itself() -> None:
    """A worker calls it before it passes on the rest of a batch, so it shares none with its key."""
    mailbox = make_mailbox()
    for payload in ("first", "called", "last"):
        mailbox.put(make_delivery(payload, key="k", calls=payload == "called"))
    taken = []
    for _ in range(3):
        batch = take(mailbox)
        taken.append(payloads_of(batch))
        mailbox.release_lanes(batch[:1])
    assert taken == [["first"], ["called"], ["last"]]


def test_a_run_that_is_put_back_comes_again_as_it_was() -> None:
    """A batch that was cut or never attempted goes back whole, in front of its key."""
    mailbox = make_mailbox()
    put(mailbox, "k", range(6))
    batch = take(mailbox, 4)
    mailbox.put_back(batch[2:])
    mailbox.put_back(batch[:2])
    assert len(mailbox) == 6
    assert payloads_of(take(mailbox)) == [0, 1, 2, 3, 4, 5]


def test_what_was_held_back_goes_one_by_one_and_then_runs_begin_again() -> None:
    """Behind a failure each of the batch goes by itself; those that never shared it may share another."""
    mailbox = make_mailbox()
    put(mailbox, "k", range(6))
    failed, *others = take(mailbox, 3)
    mailbox.hold_back(others)
    again = failed.renewed()
    again.attempts = 1
    mailbox.put_back([again])
    taken = []
    while batch := take(mailbox):
        taken.append(payloads_of(batch))
        mailbox.release_lanes([one for one in batch if one.holds_lane])
    assert taken == [[0], [1], [2], [3, 4, 5]]
    assert len(mailbox) == 0


def test_one_that_is_tried_again_takes_no_others_along() -> None:
    """After a failed attempt, or a lost connection, its key waits until it ends."""
    for field in ("attempts", "losses"):
        mailbox = make_mailbox()
        put(mailbox, "k", [0])
        (first,) = take(mailbox)
        put(mailbox, "k", [1, 2])
        again = first.renewed()
        setattr(again, field, 1)
        mailbox.put_back([again])
        assert payloads_of(take(mailbox)) == [0]


def test_those_that_left_are_no_part_of_a_run() -> None:
    """What expired in the middle of a lane is skipped, and counted no more."""
    mailbox = make_mailbox()
    put(mailbox, "k", range(4))
    put(mailbox, "k", "xy", Policy(expires_s=5.0))
    put(mailbox, "k", [6])
    assert payloads_of(mailbox.take_expired(6.0)) == ["x", "y"]
    batch = take(mailbox)
    assert payloads_of(batch) == [0, 1, 2, 3, 6]
    mailbox.release_lanes(batch[:1])
    assert "lanes=0" in repr(mailbox)
