"""What a worker may take from its target, as its connection goes."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from rambla_py import Rambla
from rambla_py.runtime.delivery.batch_source import BatchSource
from rambla_py.runtime.target.in_flight import InFlight
from rambla_py.runtime.target.target import Target


class Scene:
    """A target without workers, one worker of it as the test plays it, and one message in flight."""

    def __init__(self) -> None:
        with Rambla({"null": {"channels": {"orders": {"lazy": True}}}}) as app:
            (started,) = app._targets()
        collaborators = dataclasses.replace(started.collaborators, schedule=lambda target, at: None)
        self.target = Target(started.config, collaborators)
        dispatcher: Any = SimpleNamespace(one_by_one=False, whole_batches=True)
        self.source = BatchSource(self.target, 0, dispatcher, lambda at: None, isolated=False)
        self.woken = 0
        self.session = InFlight(self.target.settlements, self._wake)
        assert self.target.admission.accept_with("first", {}) is not None
        self.session.begin_each(self.take(), 0.0)
        assert self.target.admission.accept_with("second", {}) is not None

    def _wake(self) -> None:
        self.woken += 1

    def take(self) -> list[Any]:
        return self.source.take(self.session)[0]


@pytest.fixture
def scene() -> Scene:
    return Scene()


@pytest.mark.parametrize("alone", [False, True])
def test_nothing_is_begun_while_attempts_time_out(scene: Scene, alone: bool) -> None:
    """The connection may be about to be lost; a suspect begun on it would fail with it."""
    scene.session.reserve(alone=alone)
    overdue = scene.session.take_overdue(10.0, 1.0)
    assert [delivery.payload for delivery, _ in overdue.answers] == ["first"]
    assert overdue.silent
    assert scene.session.in_flight == 0
    assert scene.take() == []


def test_a_sound_connection_takes_more_after_a_time_out(scene: Scene) -> None:
    """Its worker is woken: it may have slept since it found no room."""
    scene.session.take_overdue(10.0, 1.0)
    woken = scene.woken
    scene.session.reopen()
    assert scene.woken == woken + 1
    assert [delivery.payload for delivery in scene.take()] == ["second"]
