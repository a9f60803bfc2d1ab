"""The outages of a target: when probes are sent, what waits together, and what counts as a failure."""

from __future__ import annotations

from deliveries import make_delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.delivery import LiveDelivery
from rambla_py.runtime.target.availability import (
    MAX_RETRY_AFTER_S,
    AtFault,
    Availability,
    Outage,
    WaitAlone,
    WaitTogether,
)


def availability(**settings: float) -> Availability:
    chosen = {"max_probe_s": 3.0, "max_unavailable_s": 3_600.0, **settings}
    return Availability(**chosen, uniform=lambda: 1.0)


def refuse(
    state: Availability,
    delivery: LiveDelivery,
    *,
    at: float,
    scope: str = "target",
    delivered: int = 0,
    retry_after_s: float | None = None,
) -> WaitTogether | WaitAlone | AtFault:
    return state.refused(
        delivery, scope, state="blocked", retry_after_s=retry_after_s, delivered=delivered, now=at
    )


def probe(state: Availability, delivery: LiveDelivery, at: float) -> Outage:
    """Make a delivery the probe of the one outage that is due."""
    (outage,) = state.take_due(at)
    delivery.past().probing = outage.scope
    return outage


def test_the_first_refusal_pauses_the_target() -> None:
    """The target is blocked; the refused delivery waits with those refused after it."""
    state = availability()
    first, second = make_delivery(), make_delivery()
    verdict = refuse(state, first, at=10.0)
    assert isinstance(verdict, WaitTogether)
    assert verdict.began
    assert state.pause is not None
    assert (state.pause.state, state.pause.since, list(state.pause.waiting)) == ("blocked", 10.0, [first])
    verdict = refuse(state, second, at=10.1)
    assert isinstance(verdict, WaitTogether)
    assert not verdict.began
    assert list(state.pause.waiting) == [first, second]


def test_one_probe_at_a_time() -> None:
    """While a probe is on its way there is no other; after its refusal there is, later each time up to 3 s."""
    state, one = availability(), make_delivery()
    refuse(state, one, at=0.0)
    now, waits = 0.0, []
    for _ in range(8):
        due = state.next_due()
        assert due is not None
        assert state.take_due(due - 0.001) == []
        probe(state, one, due)
        assert state.take_due(due + 1_000.0) == []
        assert state.next_due() is None
        waits.append(due - now)
        now = due
        refuse(state, one, at=now)
    assert [round(wait, 3) for wait in waits] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]


def test_the_first_success_of_a_probe_ends_the_outage() -> None:
    """Those that waited are handed back; a success that is no probe ends nothing."""
    state, one, other = availability(), make_delivery(), make_delivery()
    refuse(state, one, at=0.0)
    assert state.succeeded(other) is None
    assert state.pause is not None
    probe(state, other, at=1.0)
    outage = state.succeeded(other)
    assert outage is not None
    assert list(outage.waiting) == [one]
    assert state.outages == {}


@given(retry_after_s=st.floats(0, 100_000), refusals=st.integers(1, 20))
def test_retry_after_delays_the_probe_by_at_most_300_s(retry_after_s: float, refusals: int) -> None:
    """A Retry-After is kept, up to 300 s, and never makes the probe sooner than the back-off."""
    state, one = availability(), make_delivery()
    for _ in range(refusals - 1):
        refuse(state, one, at=0.0)
        probe(state, one, at=1_000.0)
    refuse(state, one, at=1_000.0, retry_after_s=retry_after_s)
    due = state.next_due()
    assert due is not None
    assert due >= 1_000.0 + min(retry_after_s, MAX_RETRY_AFTER_S) - 1e-6
    assert due <= 1_000.0 + max(3.0, min(retry_after_s, MAX_RETRY_AFTER_S)) + 1e-6


def test_a_probe_that_shows_nothing_is_followed_by_another() -> None:
    """A probe that is lost, fails otherwise or expires leaves the outage as it is."""
    state, one, other = availability(), make_delivery(), make_delivery()
    refuse(state, one, at=0.0)
    probe(state, other, at=1.0)
    state.inconclusive(other, now=2.0)
    assert state.pause is not None
    assert state.next_due() == 2.2
    state.inconclusive(other, now=50.0)
    assert state.next_due() == 2.2, "it is no probe any more"


def test_one_that_is_refused_although_others_succeed_waits_alone() -> None:
    """It pauses nothing, and its own waits grow."""
    state, one = availability(), make_delivery()
    refuse(state, one, at=0.0, delivered=5)
    other = make_delivery()
    probe(state, other, at=1.0)
    state.succeeded(other)
    verdict = refuse(state, one, at=1.0, delivered=6)
    assert verdict == WaitAlone(1.2)
    assert state.outages == {}


def test_one_that_is_refused_for_long_while_others_succeed_is_at_fault() -> None:
    """After max_unavailable_s its tries count as failed attempts; an outage of everything never does."""
    state, one = availability(max_unavailable_s=100.0), make_delivery()
    refuse(state, one, at=0.0, delivered=0)
    probe(state, one, at=500.0)
    assert isinstance(refuse(state, one, at=500.0, delivered=0), WaitTogether)
    probe(state, other := make_delivery(), at=600.0)
    state.succeeded(other)
    assert isinstance(refuse(state, one, at=600.0, delivered=1), WaitAlone)
    assert isinstance(refuse(state, one, at=699.0, delivered=2), WaitAlone)
    assert refuse(state, one, at=700.0, delivered=3) == AtFault()
    assert refuse(state, one, at=701.0, delivered=4) == AtFault()


def test_scopes_are_apart() -> None:
    """The deliveries of one scope wait together; another scope has its own probe and its own end."""
    state = availability()
    a1, a2, b1 = make_delivery(), make_delivery(), make_delivery()
    refuse(state, a1, at=0.0, scope="https://a")
    refuse(state, a2, at=0.0, scope="https://a")
    refuse(state, b1, at=0.0, scope="https://b", retry_after_s=60.0)
    assert state.pause is None
    (outage,) = state.take_due(1.0)
    assert outage.scope == "https://a"
    a1.past().probing = "https://a"
    ended = state.succeeded(a1)
    assert ended is not None
    assert list(ended.waiting) == [a1, a2]
    assert list(state.outages) == ["https://b"]
    assert state.next_due() == 60.0


def test_a_stop_probes_at_once_and_then_every_second() -> None:
    """All that are not held back by a Retry-After are due when a stop begins; waits are at most 1 s then."""
    state, one, other = availability(), make_delivery(), make_delivery()
    for _ in range(9):
        refuse(state, one, at=0.0)
        probe(state, one, at=1_000.0)
    refuse(state, one, at=0.0)
    refuse(state, other, at=0.0, scope="https://b", retry_after_s=60.0)
    state.hurry(5.0)
    assert [outage.scope for outage in state.take_due(5.0)] == ["target"]
    one.past().probing = "target"
    refuse(state, one, at=5.0)
    assert state.next_due() == 6.0
    assert state.outages["https://b"].due == 60.0


def test_a_probe_refused_for_another_scope_leaves_its_own_open() -> None:
    """The scope that it probed is probed again; the new scope has an outage of its own."""
    state, one = availability(), make_delivery()
    refuse(state, one, at=0.0, scope="a")
    probe(state, one, at=1.0)
    refuse(state, one, at=1.0, scope="b")
    assert set(state.outages) == {"a", "b"}
    assert not state.outages["a"].probing
