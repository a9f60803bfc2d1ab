"""What a mailbox gives while its target is paused, and how priorities and keys share it."""

from __future__ import annotations

from collections import deque

import pytest
from deliveries import make_delivery

from rambla_py.policy import Policy, worker_of
from rambla_py.runtime.target.mailbox import Mailbox

HIGH = Policy(priority="high")


def make_mailbox(max_pending: int = 1_000) -> Mailbox:
    return Mailbox(workers=1, max_pending=max_pending, expires_s=300.0)


def test_a_paused_mailbox_gives_probes_only() -> None:
    """One delivery at a time is taken, once it was chosen as the probe; the rest waits."""
    mailbox = make_mailbox()
    fresh, held = make_delivery("fresh"), make_delivery("held")
    mailbox.ready.append(fresh)
    mailbox.hold(held)
    mailbox.paused = True
    assert not mailbox.takeable(0, alone_ok=True)
    assert mailbox.take(0, 10, alone_ok=True) == []
    waiting = deque([held])
    assert mailbox.queue_probe(waiting, "target", fresh_first=True)
    assert mailbox.takeable(0, alone_ok=True)
    assert mailbox.take(0, 10, alone_ok=True) == [fresh]
    assert fresh.past().probing == "target"
    assert mailbox.queue_probe(waiting, "target", fresh_first=True)
    assert mailbox.take(0, 10, alone_ok=True) == [held]
    assert not mailbox.queue_probe(waiting, "target", fresh_first=True)
    assert len(mailbox) == 0


def test_what_is_held_counts_expires_and_comes_back_in_front() -> None:
    """A held delivery is not taken, expires like any other, and is released ahead of new ones."""
    mailbox = make_mailbox()
    short = make_delivery("short", policy=Policy(expires_s=5.0))
    one, two = make_delivery("one"), make_delivery("two")
    for delivery in (one, short, two):
        mailbox.hold(delivery)
    mailbox.put(make_delivery("new"))
    assert len(mailbox) == 4
    assert [delivery.payload for delivery in mailbox.take(0, 1, alone_ok=True)] == ["new"]
    assert mailbox.take_expired(6.0) == [short]
    mailbox.put(make_delivery("newer"))
    assert mailbox.release([one, short, two]) == [one, two]
    assert [delivery.payload for delivery in mailbox.take(0, 9, alone_ok=True)] == ["one", "two", "newer"]


def test_the_probe_of_another_scope_is_taken_before_the_rest() -> None:
    """It is a batch of its own; the others follow with the next one."""
    mailbox = make_mailbox()
    held = make_delivery("held")
    mailbox.put(make_delivery("other"))
    mailbox.hold(held)
    assert mailbox.queue_probe(deque([held]), "https://a", fresh_first=False)
    assert mailbox.take(0, 10, alone_ok=True) == [held]
    assert [delivery.payload for delivery in mailbox.take(0, 10, alone_ok=True)] == ["other"]


@pytest.mark.parametrize("limit", [1, 3, 10, 25])
@pytest.mark.parametrize("kind", ["plain", "single", "keyed"])
def test_normal_messages_get_one_place_in_ten(limit: int, kind: str) -> None:
    """Beside a flood of high priority a tenth of what is taken is of normal priority."""
    mailbox = make_mailbox()
    for at in range(400):
        mailbox.put(make_delivery("high", policy=HIGH))
        key = str(at) if kind == "keyed" else None
        normal = make_delivery("normal", key=key)
        if kind == "plain":
            mailbox.ready.append(normal)
        else:
            mailbox.put(normal)
    taken = [one.payload for _ in range(300 // limit) for one in mailbox.take(0, limit, alone_ok=True)]
    assert taken.count("normal") >= len(taken) // 10
    assert taken.count("high") >= len(taken) * 8 // 10


def test_high_priority_alone_takes_every_place() -> None:
    """Without normal messages nothing is kept free."""
    mailbox = make_mailbox()
    for _ in range(30):
        mailbox.put(make_delivery("high", policy=HIGH))
    assert len(mailbox.take(0, 30, alone_ok=True)) == 30


def test_a_key_is_counted_only_while_its_head_waits_for_a_retry() -> None:
    """Behind a head that is in flight or waits for its worker nothing is counted; expired ones are not."""
    mailbox = make_mailbox()
    for policy in (Policy(), Policy(expires_s=5.0), Policy()):
        mailbox.put(make_delivery(key="k", policy=policy))
    assert mailbox.behind_a_retry("k") == 0
    (head,) = mailbox.take(0, 1, alone_ok=True)
    head.attempts = 1
    assert mailbox.behind_a_retry("k") == 0
    mailbox.park(head, 100.0)
    assert mailbox.behind_a_retry("k") == 3
    assert mailbox.behind_a_retry("other") == 0
    mailbox.take_expired(6.0)
    assert mailbox.behind_a_retry("k") == 2
    mailbox.unpark(100.0)
    assert mailbox.behind_a_retry("k") == 0


def test_a_worker_learns_once_for_which_others_keyed_messages_were_sorted() -> None:
    """The worker that takes first sorts what has arrived, and wakes the workers of the keys."""
    mailbox = Mailbox(workers=4, max_pending=100, expires_s=None)
    keys = [f"key-{at}" for at in range(20)]
    for key in keys * 2:
        mailbox.put(make_delivery(key=key))
    assert len(mailbox) == 40
    assert mailbox.workers_with_new() == set()
    taken = mailbox.take(0, 100, alone_ok=True)
    assert mailbox.workers_with_new() == {worker_of(key, 4) for key in keys}
    assert mailbox.workers_with_new() == set()
    assert mailbox.release_lanes(taken) == {0}
    assert [one.key for one in mailbox.take(0, 100, alone_ok=True)] == [one.key for one in taken]


def test_room_is_counted_again_before_a_message_is_refused() -> None:
    """A figure that two publishers at once have left behind refuses nothing."""
    mailbox = Mailbox(workers=1, max_pending=10, expires_s=None)
    mailbox.put(make_delivery(key="k"))
    assert mailbox.ready_limit == 9
    mailbox.ready_limit = 0
    assert mailbox.has_room(9)
    assert not mailbox.has_room(10)
    assert mailbox.free_places() == 9


def test_what_expired_behind_a_retry_is_let_go() -> None:
    """A key whose head waits for a retry keeps none of the thousands that expired behind it."""
    mailbox = Mailbox(workers=1, max_pending=100_000, expires_s=None)
    mailbox.put(make_delivery("head", key="k"))
    (head,) = mailbox.take(0, 1, alone_ok=True)
    head = head.renewed()
    head.attempts += 1
    mailbox.park(head, 1e9)
    for at in range(5_000):
        mailbox.put(make_delivery(at, key="k", policy=Policy(expires_s=7.0), accepted_at=float(at)))
        mailbox.take_expired(float(at))
    assert len(mailbox) == mailbox.behind_a_retry("k") == 8
    lane = mailbox._lanes.behind["k"]
    assert lane is not None
    assert len(lane) < 200
    assert mailbox.release_lanes([head]) == {0}
    assert [one.payload for one in mailbox.take(0, 9, alone_ok=True)] == [4_993]
