"""The wait for a batch to fill, without threads: what wakes a worker, what a worker decides."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from deliveries import make_delivery

from rambla_py import Rambla
from rambla_py.runtime.delivery.batch_source import BatchSource
from rambla_py.runtime.target.in_flight import InFlight
from rambla_py.runtime.target.shutdown import drop_later_than, shut
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.target.wakeup import WakeCallback

LATER = float("inf")


class Scene:
    """A target without workers, and one worker of it as the test plays it."""

    def __init__(self, batch_ready: int = 3) -> None:
        channel = {"count": 2, "batch_ready": batch_ready, "batch_timeout_s": 10.0, "lazy": True}
        with Rambla({"null": {"channels": {"orders": channel}}}) as app:
            (started,) = app._targets()
        collaborators = dataclasses.replace(started.collaborators, schedule=lambda target, at: None)
        self.target = Target(started.config, collaborators)
        self.target.timer.resume()
        self.woken = 0
        self.target.wakeup.idle.clear()
        dispatcher: Any = SimpleNamespace(one_by_one=False, whole_batches=True)
        self.due: list[float | None] = []
        self.source = BatchSource(self.target, 0, dispatcher, self.due.append, isolated=False)
        self.session = InFlight(self.target.settlements, lambda: None)

    def sleep(self) -> None:
        """Add a worker to those that publishers wake."""
        self.target.wakeup.idle.append(WakeCallback(self._wake))

    def _wake(self) -> None:
        self.woken += 1

    def take(self) -> int:
        return len(self.source.take(self.session)[0])


@pytest.fixture
def scene() -> Scene:
    return Scene()


def publish(target: Target, number: int = 1, **options: Any) -> None:
    for at in range(number):
        assert target.admission.accept_with(at, options) is not None


def test_a_batch_gathers_until_it_is_ready(scene: Scene) -> None:
    """The worker sets its timer; the third message wakes it, and it takes all three."""
    publish(scene.target)
    assert scene.take() == 0
    assert scene.due[-1] is not None
    scene.sleep()
    publish(scene.target)
    assert scene.woken == 0
    publish(scene.target)
    assert scene.woken == 1
    assert scene.take() == 3
    assert scene.due[-1] is None
    scene.sleep()
    publish(scene.target)
    assert scene.woken == 2


def test_a_batch_that_became_ready_before_the_worker_slept_is_noticed(scene: Scene) -> None:
    """No publisher saw the worker asleep, so it looks once more itself."""
    publish(scene.target)
    assert scene.take() == 0
    assert not scene.source.has_work(scene.session, held_back=True)
    publish(scene.target, 2)
    assert scene.source.has_work(scene.session, held_back=True)


@pytest.mark.parametrize("end", ["release", "stop"])
def test_a_release_before_the_worker_slept_is_noticed(scene: Scene, end: str) -> None:
    """The same for a flush and a stop."""
    publish(scene.target)
    assert scene.take() == 0
    if end == "release":
        scene.target.gathering.release()
    else:
        drop_later_than(scene.target, LATER)
    assert scene.source.has_work(scene.session, held_back=True)
    assert scene.take() == 1


def test_without_the_periodic_work_a_message_wakes_a_worker(scene: Scene) -> None:
    """A wake-up starts it; otherwise the message would not expire."""
    publish(scene.target)
    assert scene.take() == 0
    scene.target.timer.pause()
    scene.sleep()
    publish(scene.target)
    assert scene.woken == 1
    assert scene.target.timer.on


@pytest.mark.parametrize("stop", [lambda target: drop_later_than(target, LATER), shut], ids=["stop", "shut"])
def test_a_stop_lets_every_message_wake(scene: Scene, stop: Any) -> None:
    """What is handed over during the stop is not held; what comes after it is dropped by what it wakes."""
    publish(scene.target)
    assert scene.take() == 0
    stop(scene.target)
    assert not scene.target.gathering.on
    if scene.target.state.closed:
        publish(scene.target)
        assert scene.target.mailbox.empty


def test_a_key_and_a_message_of_the_outbox_wake_a_worker() -> None:
    """The one belongs to one worker; the other was accepted before those that gather."""
    scene = Scene(batch_ready=9)
    publish(scene.target)
    assert scene.take() == 0
    scene.sleep()
    publish(scene.target, key="k")
    assert scene.woken == 1
    scene.sleep()
    scene.target.admission.enqueue(make_delivery(key="k"))
    assert scene.woken == 2
    scene.sleep()
    scene.target.admission.feed(make_delivery(), None)
    assert scene.woken == 3


def test_a_release_wakes_all_workers_if_one_of_them_has_keys(scene: Scene) -> None:
    """The worker that is woken takes its own keys only."""
    woken: list[int | None] = []
    group: Any = SimpleNamespace(wake_workers=lambda worker=None: woken.append(worker))
    scene.target.wakeup.workers = group
    publish(scene.target, 2, key="k")
    scene.target.gathering.release()
    assert woken == [None]


def test_the_timer_wakes_no_worker_while_a_batch_gathers(scene: Scene) -> None:
    """Its safety net concerns batches that are due, ready, or that no worker waits for."""
    gathering = scene.target.gathering
    publish(scene.target)
    assert not gathering.holds(0.0)
    assert scene.take() == 0
    assert gathering.holds(0.0)
    assert not gathering.holds(LATER)
    gathering.release()
    assert not gathering.holds(0.0)
    publish(scene.target, 2)
    gathering.on = True
    assert not gathering.holds(0.0)


def test_a_paused_target_does_not_gather(scene: Scene) -> None:
    """Its probe is attempted at once."""
    publish(scene.target)
    scene.target.mailbox.pause(True)
    assert scene.target.gathering.left_s(0.0) is None
    assert not scene.target.gathering.on
