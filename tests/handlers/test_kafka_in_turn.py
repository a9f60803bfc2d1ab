"""Messages that are sent to Kafka one after the other."""

from __future__ import annotations

from typing import Any

import pytest
from deliveries import make_delivery

from rambla_py.handler import Link
from rambla_py.handlers.kafka.in_turn import InTurn


class Scene:
    """What was reported to the worker, and handed to the driver; ``gone`` were taken back, ``ended`` fail."""

    def __init__(self) -> None:
        self.waited: list[Any] = []
        self.sent: list[Any] = []
        self.gone: set[Any] = set()
        self.ended: set[Any] = set()
        link = Link(wait=self._wait, begin=self._begin)
        self.in_turn = InTurn(link, self._send)

    def _wait(self, deliveries: Any) -> None:
        self.waited += [one.payload for one in deliveries]

    def _begin(self, deliveries: Any) -> list[Any]:
        return [one for one in deliveries if one.payload not in self.gone]

    def _send(self, delivery: Any) -> bool:
        self.sent.append(delivery.payload)
        return delivery.payload not in self.ended

    def add(self, *payloads: int) -> None:
        for payload in payloads:
            self.in_turn.add(make_delivery(payload))


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_each_waits_for_the_answer_to_the_one_before(scene: Scene) -> None:
    """None has begun before that: another one's lost connection costs it nothing."""
    scene.add(0, 1, 2)
    assert (scene.waited, scene.sent) == ([0, 1, 2], [0])
    scene.in_turn.answered()
    assert scene.sent == [0, 1]
    scene.in_turn.answered()
    scene.in_turn.answered()
    scene.add(3)
    assert scene.sent == [0, 1, 2, 3]


def test_one_that_was_taken_back_or_has_ended_does_not_stop_the_others(scene: Scene) -> None:
    """There is no answer to wait for."""
    scene.gone, scene.ended = {1}, {2}
    scene.add(0, 1, 2, 3)
    scene.in_turn.answered()
    assert scene.sent == [0, 2, 3]


def test_nothing_is_sent_once_it_is_closed(scene: Scene) -> None:
    """What waits has not begun, and goes to the next connection."""
    scene.add(0, 1)
    scene.in_turn.close()
    scene.in_turn.answered()
    scene.add(2)
    assert scene.sent == [0]
