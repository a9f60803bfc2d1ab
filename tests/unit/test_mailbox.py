"""The mailbox against a plain model: what goes in comes out once, in the order that was promised."""

from __future__ import annotations

from collections import deque
from typing import Any

from deliveries import make_delivery
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from rambla_py.delivery import Delivery
from rambla_py.policy import Policy, worker_of
from rambla_py.runtime.target.isolation import SUSPECT_AFTER_LOSSES
from rambla_py.runtime.target.mailbox import Mailbox

WORKERS = 2
DEFAULT = Policy(expires_s=100.0)
keys = st.sampled_from([None, None, "a", "b", "c"])
policies = st.sampled_from(
    [
        DEFAULT,
        DEFAULT,
        Policy(expires_s=5.0),
        Policy(expires_s=None),
        Policy(expires_s=100.0, priority="high"),
    ]
)


class MailboxModel(RuleBasedStateMachine):
    """Puts, takes, ends, loses, parks and expires, and remembers where every delivery must be."""

    taken = Bundle("taken")

    def __init__(self) -> None:
        super().__init__()
        self.mailbox = Mailbox(workers=WORKERS, max_pending=10, expires_s=DEFAULT.expires_s)
        self.now = 0.0
        self.waiting: dict[int, Delivery] = {}
        self.parked: dict[int, float] = {}
        self.lanes: dict[str, deque[int]] = {}
        self.out: set[int] = set()

    @rule()
    def accept_a_plain_one(self) -> None:
        delivery = make_delivery(policy=DEFAULT, accepted_at=self.now)
        self.mailbox.ready.append(delivery)
        self.waiting[delivery.seq] = delivery

    @rule(delay_s=st.floats(0, 10), key=keys)
    def put_with_a_delay(self, delay_s: float, key: str | None) -> None:
        delivery = make_delivery(policy=DEFAULT, accepted_at=self.now, key=key)
        self.mailbox.park(delivery, self.now + delay_s)
        self.waiting[delivery.seq] = delivery
        self.parked[delivery.seq] = self.now + delay_s

    @rule(key=keys, policy=policies)
    def put(self, key: str | None, policy: Policy) -> None:
        delivery = make_delivery(policy=policy, accepted_at=self.now, key=key)
        self.mailbox.put(delivery)
        self.waiting[delivery.seq] = delivery
        if key is not None:
            self.lanes.setdefault(key, deque()).append(delivery.seq)

    @rule(target=taken, worker=st.integers(0, WORKERS - 1), limit=st.integers(1, 4), alone_ok=st.booleans())
    def take(self, worker: int, limit: int, alone_ok: bool) -> Any:
        batch = self.mailbox.take(worker, limit, alone_ok=alone_ok)
        assert len(batch) <= limit
        for delivery in batch:
            assert delivery.seq not in self.parked
            assert self.waiting.pop(delivery.seq) is delivery
            self.out.add(delivery.seq)
            if delivery.key is not None:
                assert self.lanes[delivery.key][0] == delivery.seq, "not the first of its key"
            if delivery.key is not None and delivery.losses < SUSPECT_AFTER_LOSSES:
                assert worker_of(delivery.key, WORKERS) == worker
        if any(delivery.losses >= SUSPECT_AFTER_LOSSES for delivery in batch):
            assert alone_ok
            assert len(batch) == 1
        return batch

    def _gone(self, delivery: Delivery) -> None:
        self.out.discard(delivery.seq)
        if delivery.key is not None and delivery.seq in self.lanes.get(delivery.key, ()):
            self.lanes[delivery.key].remove(delivery.seq)
        if delivery.holds_lane:
            self.mailbox.release_lanes([delivery])

    @rule(batch=consumes(taken))
    def end(self, batch: list[Delivery]) -> None:
        for delivery in batch:
            self._gone(delivery)

    @rule(batch=consumes(taken))
    def lose(self, batch: list[Delivery]) -> None:
        again = [delivery.renewed() for delivery in batch]
        for delivery in again:
            delivery.losses += 1
            self.out.discard(delivery.seq)
            self.waiting[delivery.seq] = delivery
        self.mailbox.put_back(again)

    @rule(batch=consumes(taken), delay_s=st.floats(0, 10))
    def park(self, batch: list[Delivery], delay_s: float) -> None:
        for delivery in batch:
            again = delivery.renewed()
            again.attempts += 1
            self.out.discard(again.seq)
            self.waiting[again.seq] = again
            self.parked[again.seq] = self.now + delay_s
            self.mailbox.park(again, self.now + delay_s)

    @rule(seconds=st.floats(0, 20))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        due = {seq for seq, at in self.parked.items() if at <= self.now}
        released = self.mailbox.unpark(self.now)
        assert {delivery.seq for delivery in released} == due
        for delivery in released:
            del self.parked[delivery.seq]
            if delivery.key is not None and not delivery.attempts and not delivery.losses:
                # A delayed one takes its place among those of its key when its delay is over.
                self.lanes.setdefault(delivery.key, deque()).append(delivery.seq)
        expected = {
            seq
            for seq, delivery in self.waiting.items()
            if delivery.expires_at is not None and delivery.expires_at <= self.now
        }
        found = self.mailbox.take_expired(self.now)
        assert {delivery.seq for delivery in found} == expected
        for delivery in found:
            del self.waiting[delivery.seq]
            self.parked.pop(delivery.seq, None)
            self._gone(delivery)

    @rule()
    def take_oldest(self) -> None:
        oldest = self.mailbox.take_oldest()
        fresh = [one for one in self.waiting.values() if not one.attempts and not one.losses]
        if not fresh:
            assert oldest is None
            return
        assert oldest is not None
        assert oldest.accepted_at == min(one.accepted_at for one in fresh)
        del self.waiting[oldest.seq]
        self.parked.pop(oldest.seq, None)
        self._gone(oldest)

    @invariant()
    def everything_is_where_it_should_be(self) -> None:
        assert len(self.mailbox) == len(self.waiting)
        assert self.mailbox.full == (len(self.waiting) >= 10)

    @invariant()
    def what_left_early_is_let_go(self) -> None:
        """Queues hold at most as many deliveries that left as wait, so that memory follows what waits."""
        mailbox = self.mailbox
        lanes = [lane for lane in mailbox._lanes.behind.values() if lane]
        held = [one for queue in (*mailbox._queues._all, *lanes) for one in queue]
        assert len(held) - sum(mailbox.holds(one) for one in held) <= len(self.waiting)

    @invariant()
    def one_of_a_key_is_out(self) -> None:
        for lane in self.lanes.values():
            assert sum(seq in self.out for seq in lane) <= 1

    def teardown(self) -> None:
        assert {delivery.seq for delivery in self.mailbox.take_all()} == set(self.waiting)
        assert len(self.mailbox) == 0


TestMailbox = MailboxModel.TestCase
TestMailbox.settings = settings(stateful_step_count=40, deadline=None)


def fill(mailbox: Mailbox, number: int, **fields: Any) -> list[Delivery]:
    deliveries = [make_delivery(at, **fields) for at in range(number)]
    for delivery in deliveries:
        mailbox.put(delivery)
    return deliveries


def test_what_was_lost_comes_out_first_and_in_its_order() -> None:
    """Deliveries put back come before those that were never taken, the oldest first."""
    mailbox = Mailbox(workers=1, max_pending=10, expires_s=300.0)
    fill(mailbox, 4)
    batch = mailbox.take(0, 2, alone_ok=True)
    mailbox.put_back([delivery.renewed() for delivery in batch])
    assert [delivery.payload for delivery in mailbox.take(0, 4, alone_ok=True)] == [0, 1, 2, 3]


def test_high_priority_overtakes() -> None:
    """What has priority "high" is taken before what was there first."""
    mailbox = Mailbox(workers=1, max_pending=10, expires_s=300.0)
    fill(mailbox, 2)
    mailbox.put(make_delivery("urgent", policy=Policy(priority="high")))
    assert [delivery.payload for delivery in mailbox.take(0, 2, alone_ok=True)] == ["urgent", 0]


def test_keyed_messages_do_not_starve_the_others() -> None:
    """With both waiting, one at a time: each gets every other turn."""
    mailbox = Mailbox(workers=1, max_pending=100, expires_s=300.0)
    fill(mailbox, 10)
    for number in range(10):
        mailbox.put(make_delivery("keyed", key=str(number)))
    taken = [mailbox.take(0, 1, alone_ok=True)[0].payload for _ in range(10)]
    assert taken.count("keyed") == 5


def test_one_that_was_lost_twice_waits_until_it_can_be_alone() -> None:
    """It is not taken with others in flight, and nothing passes it on that worker."""
    mailbox = Mailbox(workers=1, max_pending=10, expires_s=300.0)
    fill(mailbox, 2)
    suspect = make_delivery("suspect", losses=2)
    mailbox.put_back([suspect])
    assert mailbox.take(0, 10, alone_ok=False) == []
    assert mailbox.take(0, 10, alone_ok=True) == [suspect]
    assert len(mailbox.take(0, 10, alone_ok=True)) == 2


def test_the_heap_of_own_expiries_forgets_what_has_ended() -> None:
    """Ten thousand messages with an ``expires_s`` of their own leave nothing behind once they are taken."""
    mailbox = Mailbox(workers=1, max_pending=10, expires_s=300.0)
    own = Policy(expires_s=7.0)
    for _ in range(10_000):
        mailbox.put(make_delivery(policy=own))
        mailbox.take(0, 1, alone_ok=True)
    assert len(mailbox._queues.expiries) < 200
