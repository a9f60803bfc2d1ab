"""This module tests the lanes of the handlers over HTTP, on real threads."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from deliveries import make_delivery

from rambla_py.delivery import Delivery
from rambla_py.errors import ConnectionLostError, UnknownOutcomeError
from rambla_py.handler import Link
from rambla_py.handlers._http.lanes import Group, Lanes, Loss
from rambla_py.testing.processes import deadline


class Desk:
    """Hears what a handler says of its deliveries and of its connection."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, Any]] = []
        self.link = Link(lost=lambda error: self.heard.append(("lost", error)), hold=self._hold)

    def _hold(self, held: bool) -> None:
        self.heard.append(("held", held))

    def settle(self, delivery: Delivery, answer: Any) -> None:
        self.heard.append((delivery.payload, answer))

    def settle_ok(self, delivery: Delivery, result: Any) -> None:
        self.heard.append((delivery.payload, result))

    def groups(self, *payloads: Any) -> list[Group]:
        return [[make_delivery(payload, session=self)] for payload in payloads]

    def wait(self, number: int) -> list[tuple[Any, Any]]:
        assert any(len(self.heard) >= number for _ in deadline(10, poll_s=0.005)), self.heard
        return self.heard


def fine(group: Group) -> Sequence[Loss]:
    for delivery in group:
        delivery.ok("fine")
    return ()


def test_each_group_is_worked() -> None:
    """Every delivery is settled once, by however many lanes."""
    desk = Desk()
    lanes = Lanes(fine, limit=3, link=desk.link, name="test")
    lanes.submit(desk.groups(*range(100)))
    lanes.submit(desk.groups(*range(100, 200)))
    assert sorted(desk.wait(200)) == [(n, "fine") for n in range(200)]
    lanes.close()
    lanes.close()


def test_losses_are_told_when_nothing_else_is_in_flight() -> None:
    """The intake stops at the first loss; losses follow the answers of the others, the last one first."""
    desk, gate = Desk(), threading.Event()

    def work(group: Group) -> Sequence[Loss]:
        if group[0].payload == "slow":
            gate.wait(10)
            return fine(group)
        return [(delivery, UnknownOutcomeError("gone")) for delivery in group]

    lanes = Lanes(work, limit=3, link=desk.link, name="test")
    lanes.submit(desk.groups("slow", "a", "b"))
    assert desk.wait(1) == [("held", True)]
    gate.set()
    told = [name for name, _ in desk.wait(5)]
    assert told == ["held", "slow", "b", "a", "lost"]
    lanes.close()


def test_what_was_not_begun_is_not_unknown() -> None:
    """What waits for a lane when a loss happens was never sent, and is told so."""
    desk = Desk()

    def work(group: Group) -> Sequence[Loss]:
        return [(delivery, UnknownOutcomeError("gone")) for delivery in group]

    lanes = Lanes(work, limit=1, link=desk.link, name="test")
    lanes.submit(desk.groups("a", "b", "c"))
    kinds = {name: type(answer) for name, answer in desk.wait(5) if name in ("a", "b", "c")}
    assert kinds == {"a": UnknownOutcomeError, "b": ConnectionLostError, "c": ConnectionLostError}
    lanes.close()


def test_a_bug_costs_no_lane() -> None:
    """Whatever the work raises is a failure of its group, and the lane goes on."""
    desk = Desk()

    def work(group: Group) -> Sequence[Loss]:
        raise SystemExit("a bug")

    lanes = Lanes(work, limit=1, link=desk.link, name="test")
    lanes.submit(desk.groups("a"))
    lanes.submit(desk.groups("b"))
    assert [(name, type(answer)) for name, answer in desk.wait(2)] == [("a", SystemExit), ("b", SystemExit)]
    lanes.close()


class _NoThreads(Lanes):
    """Lanes at interpreter exit, where from Python 3.12 on no thread can be started."""

    def _start(self, run: Any) -> bool:
        return False


def test_where_no_thread_can_be_started() -> None:
    """The caller's own thread does the work."""
    desk = Desk()
    lanes = _NoThreads(fine, limit=3, link=desk.link, name="test")
    lanes.submit(desk.groups("a", "b"))
    lanes.submit(desk.groups("c"))
    assert desk.heard == [("a", "fine"), ("b", "fine"), ("c", "fine")]


def test_after_close_nothing_is_sent() -> None:
    """What comes after close is lost, and not forgotten."""
    desk = Desk()
    lanes = Lanes(fine, limit=3, link=desk.link, name="test")
    lanes.close()
    lanes.submit(desk.groups("a"))
    name, answer = desk.wait(1)[0]
    assert (name, type(answer)) == ("a", ConnectionLostError)
