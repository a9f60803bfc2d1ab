"""This module tests the pool of the handlers over HTTP, on real threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from deliveries import make_delivery

from rambla_py.delivery import Delivery
from rambla_py.errors import ConnectionLostError, UnknownOutcomeError
from rambla_py.handler import Link
from rambla_py.handlers._http.request_pool import Group, RequestPool
from rambla_py.handlers._losses import Loss
from rambla_py.testing.processes import deadline


class Desk:
    """Records what a handler reports of its deliveries and its connection."""

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
    """Every delivery is settled once, by however many pool."""
    desk = Desk()
    pool = RequestPool(fine, limit=3, link=desk.link, name="test")
    pool.submit(desk.groups(*range(100)))
    pool.submit(desk.groups(*range(100, 200)))
    assert sorted(desk.wait(200)) == [(n, "fine") for n in range(200)]
    pool.close()
    pool.close()


def test_losses_are_reported_when_nothing_else_is_in_flight() -> None:
    """The intake stops when a request cannot be sent; losses follow the answers, the last one first."""
    desk, gate = Desk(), threading.Event()

    def work(group: Group) -> Sequence[Loss]:
        if group[0].payload == "slow":
            gate.wait(10)
            return fine(group)
        return [(delivery, ConnectionLostError("gone")) for delivery in group]

    pool = RequestPool(work, limit=3, link=desk.link, name="test")
    pool.submit(desk.groups("slow", "a", "b"))
    assert desk.wait(1) == [("held", True)]
    gate.set()
    events = [name for name, _ in desk.wait(5)]
    assert events == ["held", "slow", "b", "a", "lost"]
    pool.close()


def test_what_was_not_begun_is_not_unknown() -> None:
    """A request that waits for a thread when the server is lost was never sent."""
    desk = Desk()

    def work(group: Group) -> Sequence[Loss]:
        error = UnknownOutcomeError("gone") if group[0].payload == "a" else ConnectionLostError("gone")
        return [(delivery, error) for delivery in group]

    pool = RequestPool(work, limit=1, link=desk.link, name="test")
    pool.submit(desk.groups("a", "b", "c"))
    kinds = {name: type(answer) for name, answer in desk.wait(5) if name in ("a", "b", "c")}
    assert kinds == {"a": UnknownOutcomeError, "b": ConnectionLostError, "c": ConnectionLostError}
    assert desk.heard[-1][0] == "lost"
    pool.close()


def test_a_broken_connection_is_no_loss_while_others_are_answered() -> None:
    """A request whose connection breaks fails alone once a later one is answered; new requests are accepted."""
    desk = Desk()

    def work(group: Group) -> Sequence[Loss]:
        began = time.monotonic()
        if group[0].payload == "bad":
            return [(delivery, UnknownOutcomeError("reset")) for delivery in group]
        pool.answered(began)
        return fine(group)

    pool = RequestPool(work, limit=1, link=desk.link, name="test")
    pool.submit(desk.groups("bad", *range(5)))
    results = dict(desk.wait(6))
    assert {results[n] for n in range(5)} == {"fine"}
    assert not results["bad"].connection_lost
    assert "lost" not in results
    assert "held" not in results
    pool.close()


def test_a_bug_costs_no_thread() -> None:
    """Whatever the work raises is a failure of its group, and the thread continues."""
    desk = Desk()

    def work(group: Group) -> Sequence[Loss]:
        raise SystemExit("a bug")

    pool = RequestPool(work, limit=1, link=desk.link, name="test")
    pool.submit(desk.groups("a"))
    pool.submit(desk.groups("b"))
    assert [(name, type(answer)) for name, answer in desk.wait(2)] == [("a", SystemExit), ("b", SystemExit)]
    pool.close()


class _NoThreads(RequestPool):
    """A pool at interpreter exit, when Python 3.12 and later start no thread."""

    def _start(self, *_: Any) -> bool:
        return False


def test_where_no_thread_can_be_started() -> None:
    """The calling thread does the work."""
    desk = Desk()
    pool = _NoThreads(fine, limit=3, link=desk.link, name="test")
    pool.submit(desk.groups("a", "b"))
    pool.submit(desk.groups("c"))
    assert desk.heard == [("a", "fine"), ("b", "fine"), ("c", "fine")]


def test_after_close_nothing_is_sent() -> None:
    """What is submitted after close is reported as lost."""
    desk = Desk()
    pool = RequestPool(fine, limit=3, link=desk.link, name="test")
    pool.close()
    pool.submit(desk.groups("a"))
    name, answer = desk.wait(1)[0]
    assert (name, type(answer)) == ("a", ConnectionLostError)


def test_a_server_that_answers_when_asked_is_not_gone() -> None:
    """A request timed out and nothing was answered since: the server is asked before the others are lost."""
    desk, gate, answers = Desk(), threading.Event(), [True, False]

    def work(group: Group) -> Sequence[Loss]:
        if group[0].payload == "slow":
            gate.wait(10)
            return fine(group)
        return [(one, UnknownOutcomeError("no answer", connection_lost=False)) for one in group]

    pool = RequestPool(work, limit=2, link=desk.link, name="test", answers=lambda: answers.pop(0))
    pool.submit(desk.groups("slow", "late"))
    assert [name for name, _ in desk.wait(1)] == ["late"]
    gate.set()
    assert [name for name, _ in desk.wait(2)] == ["late", "slow"]
    pool.submit(desk.groups("later"))
    assert [name for name, _ in desk.wait(5)][2:] == ["held", "later", "lost"]
    pool.close()


def test_those_apart_have_threads_of_their_own() -> None:
    """However many of them hang, the shared ones go on, and so do others apart up to their limit."""
    desk, gate = Desk(), threading.Event()

    def work(group: Group) -> Sequence[Loss]:
        if group[0].payload == "hangs":
            gate.wait(10)
        return fine(group)

    pool = RequestPool(work, limit=1, apart=8, link=desk.link, name="test")
    pool.submit(desk.groups("shared"), apart=desk.groups(*["hangs"] * 7, "apart"))
    assert sorted(name for name, _ in desk.wait(2)) == ["apart", "shared"]
    gate.set()
    desk.wait(9)
    pool.close()
