"""Groups of suspects: halved at each loss, until the one that ends connections is alone."""

from __future__ import annotations

from collections import Counter, deque
from math import ceil, log2

from deliveries import make_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.delivery import LiveDelivery
from rambla_py.runtime.target.isolation import LARGEST_GROUP, is_suspect, next_group, was_alone
from rambla_py.runtime.target.mailbox import Mailbox


def suspects(number: int) -> list[LiveDelivery]:
    return [make_delivery(at, losses=2) for at in range(number)]


@given(number=st.integers(1, 300), bad=st.sets(st.integers(0, 299), max_size=6))
def test_each_bad_one_is_found_alone_and_no_good_one_is_blamed(number: int, bad: set[int]) -> None:
    """Every good suspect succeeds; a loss is blamed on a bad one only, after few losses."""
    bad = {at for at in bad if at < number}
    queue = deque(suspects(number))
    blamed, good, losses, tries = set(), set(), 0, Counter[int]()
    while queue:
        group = next_group(queue, set(queue), LARGEST_GROUP)
        assert group
        tries.update(one.payload for one in group)
        if not bad & {one.payload for one in group}:
            good.update(one.payload for one in group)
            continue
        losses += 1
        if was_alone(group[0]):
            blamed.add(group[0].payload)
        else:
            queue.extendleft(reversed(group))
    assert blamed == bad
    assert good == set(range(number)) - bad
    depth = ceil(log2(min(number, LARGEST_GROUP))) + 1
    assert losses <= len(bad) * depth
    assert max(tries.values()) <= depth


def test_those_of_two_losses_are_not_mixed() -> None:
    """A half that was not tried yet does not take in suspects of another loss."""
    first, second = suspects(4), suspects(4)
    group = next_group(deque(first), set(first), 64)
    assert group == first
    queue = deque([*first, *second])
    assert next_group(queue, set(queue), 64) == first[:2]
    assert next_group(queue, set(queue), 64) == first[2:]
    assert next_group(queue, set(queue), 64) == second


def test_one_that_left_the_mailbox_is_skipped() -> None:
    """A suspect that expired is in no group."""
    some = suspects(3)
    queue = deque(some)
    assert next_group(queue, {some[0], some[2]}, 64) == [some[0], some[2]]
    assert not queue


def test_suspects_with_a_worker_of_their_own_hold_up_nobody() -> None:
    """Ordinary workers pass them by; the isolated worker takes them, and nothing else."""
    mailbox = Mailbox(workers=1, max_pending=10, expires_s=300.0, isolated=True)
    one, other = make_delivery("suspect", losses=2), make_delivery("other")
    assert is_suspect(one)
    mailbox.put(other)
    mailbox.put_back([one])
    assert mailbox.takeable(0, alone_ok=False)
    assert mailbox.take(0, 10, alone_ok=False) == [other]
    assert mailbox.has_suspects
    assert mailbox.take_suspects(10) == [one]
    assert not mailbox.has_suspects
    assert mailbox.take_suspects(10) == []
