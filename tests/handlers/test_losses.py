"""Tests of the rules for requests without an answer."""

from __future__ import annotations

from deliveries import make_delivery

from rambla_py.errors import ConnectionLostError, UnknownOutcomeError
from rambla_py.handlers._losses import Actions, Losses

RESET = UnknownOutcomeError("reset")
TIMED_OUT = UnknownOutcomeError("no answer", connection_lost=False)
REFUSED = ConnectionLostError("refused")


def test_a_timed_out_request_fails_alone() -> None:
    """A request that times out is settled at once, and nothing else happens while others are answered."""
    losses, delivery = Losses(0.0), make_delivery()
    losses.answered(4.0, 5.0)
    assert losses.finished(1.0, [(delivery, TIMED_OUT)], 11.0, last=False) == Actions(
        settle=((delivery, TIMED_OUT),)
    )
    assert losses.finished(6.0, (), 12.0, last=True) is None


def test_a_silent_server_is_gone() -> None:
    """If nothing was answered since the timed-out request began, the connection is lost."""
    losses, delivery = Losses(0.0), make_delivery()
    actions = losses.finished(1.0, [(delivery, TIMED_OUT)], 11.0, last=False)
    assert actions == Actions(settle=((delivery, TIMED_OUT),), lost=TIMED_OUT)


def test_a_broken_connection_is_held_until_a_later_answer() -> None:
    """The answer to a request that began before the connection broke proves nothing; a later one does."""
    losses, delivery = Losses(0.0), make_delivery()
    assert losses.finished(1.0, [(delivery, RESET)], 2.0, last=False) == Actions()
    assert losses.answered(1.5, 2.5) == []
    ((settled, error),) = losses.answered(2.1, 3.0)
    assert settled is delivery
    assert isinstance(error, UnknownOutcomeError)
    assert not error.connection_lost
    assert losses.finished(2.1, (), 3.0, last=True) is None


def test_a_broken_connection_of_the_only_request_is_a_loss() -> None:
    """With nothing else in flight, a broken connection means that the server is down."""
    losses, delivery = Losses(0.0), make_delivery()
    actions = losses.finished(1.0, [(delivery, RESET)], 2.0, last=True)
    assert actions == Actions(settle=((delivery, RESET),), lost=RESET)
    assert not losses.held


def test_a_request_that_cannot_be_sent_stops_the_intake() -> None:
    """All losses are settled once nothing is in flight, the last delivery first, then the loss is reported."""
    losses, deliveries = Losses(0.0), [make_delivery() for _ in range(3)]
    assert losses.finished(1.0, [(deliveries[0], RESET)], 2.0, last=False) == Actions()
    assert losses.finished(1.0, [(deliveries[1], REFUSED)], 3.0, last=False) == Actions(hold=True)
    assert losses.answered(3.5, 4.0) == []
    actions = losses.finished(1.0, [(deliveries[2], REFUSED)], 5.0, last=True)
    assert actions is not None
    assert [delivery for delivery, _ in actions.settle] == deliveries[::-1]
    assert actions.lost is RESET
    assert not actions.hold


def test_a_server_is_asked_whether_it_is_gone() -> None:
    """After a time-out if it has answered nothing since, and after a shared request broke; once is enough."""
    losses, delivery = Losses(0.0), make_delivery()
    shared = UnknownOutcomeError("reset", together=True)
    assert losses.asks(1.0, [(delivery, TIMED_OUT)], 5.0) == 1.0
    assert losses.asks(1.0, [(delivery, RESET)], 5.0) is None
    assert losses.asks(1.0, [(delivery, shared), (delivery, REFUSED)], 5.0) == 5.0
    losses.asked(True, 6.0)
    assert losses.asks(1.0, [(delivery, TIMED_OUT)], 7.0) is None
    (single, unsent) = losses.single(5.0, [(delivery, shared), (delivery, REFUSED)])
    assert isinstance(single[1], UnknownOutcomeError)
    assert (single[1].connection_lost, single[1].together) == (False, True)
    assert unsent == (delivery, REFUSED)
    assert losses.single(6.5, [(delivery, shared)]) == [(delivery, shared)]


def test_a_server_that_is_asked_in_vain_is_gone() -> None:
    """The intake stops, and the server is not asked again."""
    losses, delivery = Losses(0.0), make_delivery()
    losses.asked(False, 2.0)
    assert losses.asks(1.0, [(delivery, TIMED_OUT)], 3.0) is None
    actions = losses.finished(1.0, [(delivery, RESET)], 3.0, last=True)
    assert actions == Actions(hold=True, settle=((delivery, RESET),), lost=RESET)
