"""Deliveries in flight on one connection: begun, settled and taken back, several at a time."""

from __future__ import annotations

from typing import Any

import pytest
from deliveries import make_delivery

from rambla_py.delivery import LiveDelivery
from rambla_py.errors import ConnectionLostError, UnknownOutcomeError
from rambla_py.runtime.delivery.answers import classify
from rambla_py.runtime.target.in_flight import InFlight, UnsentError
from rambla_py.runtime.target.settlements import Settlements


class Scene:
    """A session with deliveries in flight, and what was settled."""

    def __init__(self, number: int = 4) -> None:
        self.settlements = Settlements()
        self.woken = 0
        self.session = InFlight(self.settlements, self._wake)
        self.deliveries = [make_delivery(at) for at in range(number)]
        self.session.begin_each(self.deliveries, 1.0)
        self.link = self.session.link(lambda deliveries: None)

    def _wake(self) -> None:
        self.woken += 1

    def succeeded(self) -> list[tuple[Any, Any]]:
        return [(one.payload, one.result) for one in self.settlements.succeeded]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def payloads(deliveries: list[LiveDelivery]) -> list[Any]:
    return [delivery.payload for delivery in deliveries]


def test_several_are_begun_at_once(scene: Scene) -> None:
    """The clock of an attempt starts when it is begun, and all of these have the same start."""
    scene.link.wait(scene.deliveries)
    assert not scene.session.overdue(1e9, 30.0)
    begun: Any = scene.link.begin(scene.deliveries)
    assert payloads(begun) == [0, 1, 2, 3]
    assert len({delivery.started_at for delivery in begun} - {1.0}) == 1
    assert scene.session.overdue(begun[0].started_at + 30.0, 30.0)
    assert scene.session.in_flight == 4


def test_what_was_taken_back_is_not_begun(scene: Scene) -> None:
    """A delivery that ended while it waited is not among those to write."""
    scene.link.wait(scene.deliveries)
    assert payloads(scene.session.take_back()) == [0, 1, 2, 3]
    assert [delivery.attempts for delivery in scene.deliveries] == [0] * 4
    assert scene.link.begin(scene.deliveries) == []
    assert scene.session.in_flight == 0


def test_some_of_those_that_wait_are_begun(scene: Scene) -> None:
    """What was abandoned, or never waited, is left out; the others keep their order."""
    scene.link.wait(scene.deliveries[:3])
    taken = scene.session.abandon(30.0, ConnectionLostError("gone"))
    assert [type(answer) for _, answer in taken[:3]] == [UnsentError] * 3
    assert scene.link.begin(scene.deliveries) == []


def test_a_request_without_an_answer_that_shows_the_loss_is_a_loss_of_the_others(scene: Scene) -> None:
    """They have not failed by themselves: it uses up none of their retries."""
    timed_out = UnknownOutcomeError("no answer within 10 s", connection_lost=False, together=True)
    taken = scene.session.abandon(1e9, timed_out)
    assert [classify(answer) for _, answer in taken] == ["lost"] * 4
    assert "no answer within 10 s" in str(taken[0][1])
    assert not any(isinstance(answer, UnknownOutcomeError) and answer.together for _, answer in taken)


def test_several_succeed_at_once(scene: Scene) -> None:
    """All have the common result, and the worker is woken once."""
    scene.link.ok(scene.deliveries, "thanks")
    assert scene.succeeded() == [(at, "thanks") for at in range(4)]
    assert (scene.woken, scene.session.in_flight) == (1, 0)


def test_each_is_settled_once(scene: Scene) -> None:
    """What has an answer already, or belongs to an earlier connection, is ignored."""
    scene.deliveries[1].failed("no")
    scene.link.ok(scene.deliveries, "first")
    scene.link.ok(scene.deliveries, "second")
    scene.deliveries[0].ok("third")
    assert scene.succeeded() == [(0, "first"), (2, "first"), (3, "first")]
    assert [delivery.payload for _, delivery, _ in scene.settlements.results] == [1]
    assert scene.woken == 2


def test_what_waits_may_succeed_too(scene: Scene) -> None:
    """A handler that settles without having begun gives an answer all the same."""
    scene.link.wait(scene.deliveries[2:])
    scene.link.ok(scene.deliveries, None)
    assert len(scene.succeeded()) == 4
    assert scene.session.in_flight == 0
