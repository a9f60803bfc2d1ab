"""Backends that cannot take messages now: what waits, what probes, what is delivered afterwards."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, table, until

from rambla_py import STOP, AccessError, Handler, Rambla, RejectedError, Retry, UnavailableError
from rambla_py.handler import routing

LEVELS = ["publish", "batch", "deliveries", "async publish", "async batch"]


class Backend:
    """A backend that may be unavailable; ``tried`` holds what reached it, ``taken`` what it accepted."""

    def __init__(self) -> None:
        self.error: BaseException | None = UnavailableError("loading")
        self.bad: dict[Any, BaseException] = {}
        self.tried, self.taken = Seen(), Seen()

    def answer(self, message: Any) -> Any:
        self.tried.append((message.payload, time.monotonic()))
        error = self.bad.get(message.payload, self.error)
        if error is None:
            self.taken.append(message.payload)
        return error

    def handler(self, level: str, **members: Any) -> type[Handler]:
        """Return a handler of that level in front of this backend."""
        answer = self.answer

        def each(self: Handler, message: Any, options: Any, state: Any) -> Any:
            return answer(message)

        async def each_async(self: Handler, message: Any, options: Any, state: Any) -> Any:
            return answer(message)

        def batch(self: Handler, messages: Any, state: Any) -> Any:
            return [answer(message) for message in messages]

        async def batch_async(self: Handler, messages: Any, state: Any) -> Any:
            return [answer(message) for message in messages]

        def deliveries(self: Handler, messages: Any, state: Any) -> None:
            for message in messages:
                error = answer(message)
                message.ok() if error is None else message.failed(error)

        handle: dict[str, Callable[..., Any]] = {
            "publish": each,
            "batch": batch,
            "deliveries": deliveries,
            "async publish": each_async,
            "async batch": batch_async,
        }
        return type("Probe", (Handler,), {f"handle_{level.split()[-1]}": handle[level], **members})

    def recover(self) -> None:
        self.error = None


def state_of(app: Rambla) -> str:
    return app.status()["probe.orders"].state


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("error", "state"), [(UnavailableError("loading"), "blocked"), (AccessError("401"), "down")]
)
def test_nothing_is_lost_while_the_backend_takes_nothing(level: str, error: Exception, state: str) -> None:
    """No retry is spent, one delivery at a time probes, and all are delivered after the recovery."""
    backend = Backend()
    backend.error = error
    config = table(backend.handler(level), {"retries": 0}, max_reconnect_s=0.1)
    with running(config) as app:
        first = app.publish("orders", 0)
        assert until(lambda: state_of(app) == state)
        rest = app.publish_many("orders", range(1, 30))
        before = len(backend.tried)
        backend.tried.wait(before + 3)
        tried = [payload for payload, _ in backend.tried[before:]]
        assert len(set(tried)) == len(tried), "the probe is another one each time"
        assert not first.done()
        backend.recover()
        outcomes = [*first.outcomes(timeout_s=TIMEOUT_S), *rest.outcomes(timeout_s=TIMEOUT_S)]
        assert state_of(app) == "up"
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert outcomes[0].attempts >= 2
    assert sorted(backend.taken) == list(range(30))


def test_probes_are_at_most_max_reconnect_s_apart() -> None:
    """The wait between two probes grows up to max_reconnect_s and stays there."""
    backend = Backend()
    with running(table(backend.handler("publish"), max_reconnect_s=0.2), stop_s=0.0) as app:
        app.publish("orders", 1)
        times = [at for _, at in backend.tried.wait(8)]
    gaps = [later - sooner for sooner, later in itertools.pairwise(times)]
    assert max(gaps) < 0.4
    assert min(gaps[3:]) > 0.09


def test_retry_after_holds_the_next_probe_back() -> None:
    """A probe is not sent sooner than ``retry_after_s`` allows."""
    backend = Backend()
    backend.error = UnavailableError("later", retry_after_s=0.6)
    with running(table(backend.handler("publish"), max_reconnect_s=0.1), stop_s=0.0) as app:
        app.publish_many("orders", range(5))
        times = [at for _, at in backend.tried.wait(2)]
    assert times[1] - times[0] >= 0.59


def test_the_messages_of_a_key_keep_their_order() -> None:
    """A refused message of a key is delivered before the next one of its key."""
    backend = Backend()
    with running(table(backend.handler("batch"), max_reconnect_s=0.1, count=2)) as app:
        receipts = [app.publish("orders", at, key=str(at % 3)) for at in range(30)]
        backend.tried.wait(4)
        backend.recover()
        for receipt in receipts:
            receipt.result(timeout_s=TIMEOUT_S)
    for key in range(3):
        mine = [payload for payload in backend.taken if payload % 3 == key]
        assert mine == sorted(mine)


def test_other_scopes_go_on() -> None:
    """Deliveries refused with one scope wait together; the rest is delivered meanwhile."""
    backend = Backend()
    backend.error = None
    backend.bad = dict.fromkeys(range(0, 20, 2), UnavailableError("503", scope="https://a/in"))
    with running(table(backend.handler("batch"), {"retries": 0}, max_reconnect_s=0.2)) as app:
        receipts = [app.publish("orders", at) for at in range(20)]
        for at in range(1, 20, 2):
            receipts[at].result(timeout_s=TIMEOUT_S)
        assert state_of(app) == "up"
        assert not any(receipts[at].done() for at in range(0, 20, 2))
        backend.bad.clear()
        assert {receipt.outcomes(timeout_s=TIMEOUT_S)[0].status for receipt in receipts} == {"ok"}


@pytest.mark.parametrize("scope", ["target", "a"])
@pytest.mark.parametrize("level", ["batch", "deliveries", "async batch"])
def test_one_that_is_refused_while_others_succeed_shares_no_request(level: str, scope: str) -> None:
    """It may be what a whole request is refused for: from its second refusal on it is marked as alone."""
    alone, others = Seen(), Seen()

    class Watched(Backend):
        def answer(self, message: Any) -> Any:
            (alone if message.payload == "bad" else others).append(message.alone)
            return super().answer(message)

    backend = Watched()
    backend.error, backend.bad = None, {"bad": UnavailableError("locked", scope=scope)}
    with running(table(backend.handler(level), {"retries": 0}, max_reconnect_s=0.1)) as app:
        bad = app.publish("orders", "bad")
        assert until(lambda: one(app, 1).status == "ok" and any(alone))
        alone.wait(len(alone) + 2)
        backend.bad.clear()
        outcome = bad.outcomes(timeout_s=TIMEOUT_S)[0]
    assert (outcome.status, outcome.attempts) == ("ok", len(alone))
    assert alone[:2] == [False, False]
    assert list(alone) == sorted(alone), "once alone, always alone"
    assert not any(others)


class Addressed(msgspec.Struct, frozen=True):
    """The options of a handler whose scope is an address."""

    to: Annotated[str, routing("where it goes")] = "a"


@pytest.mark.parametrize("level", ["batch", "deliveries"])
@pytest.mark.parametrize("known", [True, False])
def test_new_messages_of_an_unavailable_scope_are_not_tried(level: str, known: bool) -> None:
    """If the scope follows from the options, messages with those of a refused one wait; others are sent."""
    backend = Backend()
    backend.error = None
    backend.bad = dict.fromkeys(range(10), UnavailableError("503", scope="a", retry_after_s=0.5))
    handler = backend.handler(level, Options=Addressed, scope_by_options=known)
    with running(table(handler, {"retries": 0}, max_reconnect_s=0.1)) as app:
        first = app.publish("orders", 0)
        assert until(lambda: backend.tried and app.status()["probe.orders"].queued == 1)
        same = app.publish_many("orders", range(1, 10))
        others = [app.publish("orders", at, to="b") for at in range(10, 20)]
        for receipt in others:
            receipt.result(timeout_s=TIMEOUT_S)
        tried = {payload for payload, _ in backend.tried} & set(range(1, 10))
        assert tried == (set() if known else set(range(1, 10)))
        backend.bad.clear()
        assert {one.status for one in same.outcomes(timeout_s=TIMEOUT_S)} == {"ok"}
        outcome = first.outcomes(timeout_s=TIMEOUT_S)[0]
    assert (outcome.status, outcome.attempts) == ("ok", 2)


@pytest.mark.parametrize("stop_s", [0.0, 5.0])
def test_what_waits_for_a_known_scope_ends_at_the_stop(stop_s: float) -> None:
    """It is delivered if the backend recovers in time, and dropped otherwise; a key keeps its order."""
    backend = Backend()
    backend.error = UnavailableError("503", scope="a")
    handler = backend.handler("deliveries", Options=Addressed, scope_by_options=True)
    with running(table(handler, max_reconnect_s=0.1), stop_s=stop_s) as app:
        first = app.publish("orders", 0, key="k")
        assert until(lambda: backend.tried and app.status()["probe.orders"].queued == 1)
        rest = [app.publish("orders", at, key="k") for at in range(1, 10)]
        if stop_s:
            backend.recover()
    statuses = {receipt.outcomes()[0].status for receipt in (first, *rest)}
    assert statuses == ({"ok"} if stop_s else {"dropped"})
    assert list(backend.taken) == (list(range(10)) if stop_s else [])


def test_one_that_is_refused_while_others_succeed_delays_no_other() -> None:
    """It waits by itself, and after max_unavailable_s its tries count as failed attempts."""
    backend = Backend()
    backend.error = None
    backend.bad = {"bad": UnavailableError("no room for this one")}
    config = table(backend.handler("publish"), {"retries": 1}, max_reconnect_s=0.05, max_unavailable_s=0.3)
    with running(config) as app:
        bad, began, number = app.publish("orders", "bad"), time.monotonic(), 0
        while not bad.done():
            assert one(app, number := number + 1).status == "ok"
            assert time.monotonic() - began < TIMEOUT_S
        outcome = bad.outcomes()[0]
    assert outcome.status == "fatal"
    assert isinstance(outcome.error, UnavailableError)
    assert time.monotonic() - began >= 0.3
    assert outcome.attempts > 3


def test_on_failure_is_asked_and_may_stop_it() -> None:
    """STOP ends a refused delivery as failed; a delay is kept."""
    backend, asked = Backend(), Seen()
    answers = {"stop": STOP, "later": Retry(delay_s=0.3)}

    def decide(outcome: Any) -> Any:
        asked.append(outcome.payload)
        return answers[outcome.payload] if len(asked) < 3 else None

    options = {"callbacks": {"on_failure": decide}}
    with running(table(backend.handler("publish"), options, max_reconnect_s=0.05)) as app:
        outcome = one(app, "stop")
        assert (outcome.status, outcome.attempts) == ("failed", 1)
        later = app.publish("orders", "later")
        asked.wait(2)
        backend.recover()
        assert later.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
    times = [at for payload, at in backend.tried if payload == "later"]
    assert times[1] - times[0] >= 0.29


def test_an_outage_is_two_lines_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins and one when it is over, however many messages wait."""
    backend = Backend()
    config = table(backend.handler("batch"), max_reconnect_s=0.05)
    with caplog.at_level(logging.WARNING, "rambla_py"), running(config) as app:
        receipt = app.publish_many("orders", range(50))
        backend.tried.wait(60)
        backend.recover()
        receipt.result(timeout_s=TIMEOUT_S)
        assert until(lambda: state_of(app) == "up")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2, lines
    assert "unavailable: UnavailableError: loading" in lines[0]
    assert "available again after" in lines[1]


def test_other_failures_of_a_probe_leave_the_pause() -> None:
    """A probe that is rejected is its own failed attempt; the next delivery probes."""
    backend = Backend()
    backend.bad = {1: RejectedError("not this one")}
    with running(table(backend.handler("publish"), {"retries": 0}, max_reconnect_s=0.05)) as app:
        receipts = [app.publish("orders", at) for at in range(3)]
        assert receipts[1].outcomes(timeout_s=TIMEOUT_S)[0].status == "fatal"
        assert state_of(app) == "blocked"
        backend.recover()
        assert {receipts[at].outcomes(timeout_s=TIMEOUT_S)[0].status for at in (0, 2)} == {"ok"}


def test_what_waits_for_the_backend_expires_on_time() -> None:
    """Expiry is decided by the timer, with the refusal as the last error."""
    backend = Backend()
    config = table(backend.handler("publish"), {"expires_s": 0.3}, max_reconnect_s=5)
    with running(config, stop_s=0.0) as app:
        receipt = app.publish_many("orders", range(5))
        outcomes = receipt.outcomes(timeout_s=2.0)
    assert {outcome.status for outcome in outcomes} == {"expired"}
    assert "loading" in str(outcomes[0].error)


def test_a_stop_probes_often_and_returns_when_all_is_delivered() -> None:
    """The first probe goes at once, the next within a second, although the back-off is longer."""
    backend = Backend()
    config = table(backend.handler("publish"), max_reconnect_s=60)
    with running(config) as app:
        receipt = app.publish_many("orders", range(5))
        backend.tried.wait(7)  # the next wait would be over three seconds
        threading.Timer(0.5, backend.recover).start()
        began = time.monotonic()
        app.stop(timeout_s=TIMEOUT_S)
        assert time.monotonic() - began < 2.5
        assert {outcome.status for outcome in receipt.outcomes()} == {"ok"}


@pytest.mark.parametrize("scope", ["target", "https://a"])
def test_a_stop_does_not_wait_for_a_retry_after_beyond_it(scope: str) -> None:
    """What cannot be probed before the stop ends is dropped at once."""
    backend = Backend()
    backend.error = UnavailableError("later", scope=scope, retry_after_s=100)
    with running(table(backend.handler("publish"))) as app:
        receipt = app.publish_many("orders", range(5))
        backend.tried.wait(1 if scope == "target" else 5)
        assert until(lambda: app.status()["probe.orders"].in_flight == 0)
        began = time.monotonic()
        app.stop(timeout_s=TIMEOUT_S)
        assert time.monotonic() - began < 2.0
        assert {outcome.status for outcome in receipt.outcomes()} == {"dropped"}


def test_a_rate_limit_counts_the_probes_only() -> None:
    """What waits takes no tokens: after the recovery the burst is there."""
    backend = Backend()
    with running(table(backend.handler("batch"), rate_limit="20/s", max_reconnect_s=0.2)) as app:
        receipt = app.publish_many("orders", range(10))
        backend.tried.wait(14)
        time_before = time.monotonic()
        backend.recover()
        receipt.result(timeout_s=TIMEOUT_S)
        assert time.monotonic() - time_before < 1.0


def test_after_an_access_error_at_connect_the_next_try_is_later() -> None:
    """The channel is down and tries again every slow_restart_s, not with the back-off of a lost server."""
    tries = Seen()

    def connect(self: Handler) -> None:
        tries.append(time.monotonic())
        if len(tries) < 3:
            raise AccessError("wrong password")

    config = table(probe(lambda message: None, connect=connect), slow_restart_s=0.5, max_reconnect_s=0.01)
    with running(config) as app:
        assert one(app).status == "ok"
    assert [later - sooner >= 0.49 for sooner, later in itertools.pairwise(tries)] == [True, True]
