"""Status, accounts, and the lives of several apps."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, service, table, until
from surface_cases import ECHO, echo

import rambla_py as rambla
from rambla_py import (
    Handler,
    NotRunningError,
    OptionError,
    Rambla,
    UnknownChannelError,
)


@pytest.fixture
def gate() -> Any:
    """Return an event that handlers wait for; it is set at the end, so that none of them stays."""
    event = threading.Event()
    yield event
    event.set()


def test_an_app_lists_channels_connections_and_services_in_config_order() -> None:
    """A channel of two services is listed once; connections with their service; started or not."""
    config = {"two": service(ECHO, b={}, a={}), "one": service(ECHO, a={}, c={})}
    app = Rambla(config)
    assert app.channels() == ["b", "a", "c"]
    assert app.connections() == ["two.here", "one.here"]
    assert app.services() == ["two", "one"]
    assert app.status() == {}
    assert app.audit() == {}


def test_status_tells_state_workers_waiting_flying_and_counts(gate: threading.Event) -> None:
    """By target: idle before the first publish; then workers, queued, in flight, statuses, reasons, last error."""

    def handle(message: Any) -> None:
        if message.payload == "bad":
            raise rambla.PermanentError("no such place")
        gate.wait(TIMEOUT_S)

    with running(table(probe(handle), count=2), gate) as app:
        assert app.status()["probe.orders"].state == "idle"
        assert one(app, "bad").status == "fatal"
        app.publish_many("orders", [1, 2, 3])
        assert until(lambda: app.status()["probe.orders"].in_flight == 2)
        status = app.status()["probe.orders"]
        assert (status.service, status.channel, status.handler) == ("probe", "orders", "Probe")
        assert (status.state, status.workers, status.queued) == ("up", ["up", "up"], 1)
        assert status.statuses["fatal"] == 1
        assert status.reasons["PermanentError"] == 1
        assert status.last_error == "PermanentError: no such place"
        audit = app.audit()["probe.orders"]
        assert (audit.accepted, audit.fatal, audit.pending, audit.balanced) == (4, 1, 3, True)


def test_flush_waits_for_what_was_accepted_and_for_no_more(gate: threading.Event) -> None:
    """It says no while something is pending, and yes when all that was accepted before it has ended."""
    other = threading.Event()

    def handle(message: Any) -> None:
        (gate if message.payload == "first" else other).wait(TIMEOUT_S)

    with running(table(probe(handle)), gate, other) as app:
        app.publish("orders", "first")
        assert app.flush(timeout_s=0.02) is False
        answers = Seen()
        thread = threading.Thread(target=lambda: answers.append(app.flush(TIMEOUT_S)), daemon=True)
        thread.start()
        assert until(lambda: any(target.counters._flushes for target in app._targets()))
        late = app.publish("orders", "later")
        gate.set()
        assert answers.wait(1) == [True]
        assert not late.done()
    assert app.audit()["probe.orders"].ok == 2


def test_ping_connects_pings_and_closes_on_its_own() -> None:
    """It needs no start; it answers for one channel or all, with the time and the error."""
    steps = Seen()
    good = probe(
        echo,
        connect=lambda self: steps.append("connect"),
        ping=lambda self, connection: steps.append("ping"),
        close=lambda self, connection: steps.append("close"),
    )

    def refuse(self: Handler) -> None:
        raise rambla.AccessError("wrong password")

    app = Rambla({"good": service(good, a={}), "bad": service(probe(echo, connect=refuse), b={})})
    first, second = app.ping(timeout_s=TIMEOUT_S)
    assert (first.service, first.channel, first.ok, first.error) == ("good", "a", True, None)
    assert list(steps) == ["connect", "ping", "close"]
    assert second.ok is False
    assert "wrong password" in (second.error or "")
    assert [ping.channel for ping in app.ping("b", timeout_s=TIMEOUT_S)] == ["b"]
    with pytest.raises(UnknownChannelError):
        app.ping("nowhere")


def test_ping_is_bounded(gate: threading.Event) -> None:
    """A server that never answers costs ``timeout_s``, for all channels together."""
    hanging = probe(echo, ping=lambda self, connection: gate.wait(TIMEOUT_S))
    app = Rambla({"probe": service(hanging, a={}, b={}, c={})})
    pings = app.ping(timeout_s=0.1)
    assert [ping.ok for ping in pings] == [False] * 3
    assert all("0.1" in (ping.error or "") for ping in pings)


def test_two_apps_share_nothing(gate: threading.Event) -> None:
    """One that is stuck, full or stopped does not touch the other, of the same configuration."""
    config = table(probe(lambda message: message.payload == "stuck" and gate.wait(TIMEOUT_S)), max_pending=1)
    with running(config, gate) as stuck, running(config) as other:
        stuck.publish("orders", "stuck")
        assert until(lambda: stuck.status()["probe.orders"].in_flight == 1)
        stuck.publish("orders", "full")
        assert one(other).status == "ok"
        assert (stuck.audit()["probe.orders"].ok, other.audit()["probe.orders"].ok) == (0, 1)
        other.stop()
        gate.set()
        assert one(stuck).status == "ok"


@pytest.mark.parametrize("where", ["app", "channel"])
def test_a_disabled_app_checks_and_drops(where: str) -> None:
    """With ``enabled = false`` everything is accepted, checked, dropped, and reported; no handler is called."""
    called, reported = Seen(), Seen()
    options = {"callbacks": {"on_outcome": reported.append}}
    config = table(probe(called.append), options, enabled=where != "channel")
    if where == "app":
        config["rambla"] = {"enabled": False}
    with running(config) as app:
        outcome = one(app, 1)
        assert (outcome.status, outcome.attempts) == ("dropped", 0)
        assert one(app, 1, key="k", delay_s=100).status == "dropped"
        with pytest.raises(OptionError):
            app.publish("orders", 1, nonsense=1)
        with pytest.raises(UnknownChannelError):
            app.publish("ordrs", 1)
        assert app.audit()["probe.orders"].dropped == 2
        assert app.status()["probe.orders"].state == "disabled"
        assert [outcome.status for outcome in reported.wait(2)] == ["dropped"] * 2
    assert not called


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAMBLA_ENABLED=0 is ``enabled = false``."""
    monkeypatch.setenv("RAMBLA_ENABLED", "0")
    with running(table(ECHO)) as app:
        assert one(app).status == "dropped"


def test_an_app_starts_and_stops_as_often_as_one_likes() -> None:
    """start and stop twice are once; started again it publishes again, with accounts from zero."""
    app = Rambla(table(probe(lambda message: message.payload)))
    assert app.start() is app.start()
    assert one(app, 1).result == 1
    audit = app.stop()
    assert audit is not None
    assert audit["probe.orders"].ok == 1
    app.stop()
    with app:
        assert one(app, 2).result == 2
        assert app.audit()["probe.orders"].accepted == 1


def test_async_with_starts_and_stops() -> None:
    """``async with`` does what ``with`` does, and does not block the loop."""

    async def main() -> Any:
        async with Rambla(table(probe(lambda message: message.payload))) as app:
            result = await app.publish("orders", 3)
        with pytest.raises(NotRunningError):
            app.publish("orders", 4)
        return result, app.audit()["probe.orders"].ok

    assert asyncio.run(main()) == (3, 1)


def test_the_default_app() -> None:
    """start, publish, publish_many and stop of the package are those of one app; without start they refuse."""
    rambla.stop()
    with pytest.raises(NotRunningError):
        rambla.publish("orders", 1)
    try:
        app = rambla.start(table(probe(lambda message: message.payload)))
        assert rambla.publish("orders", 1).result(timeout_s=TIMEOUT_S) == 1
        assert rambla.publish_many("orders", [2, 3]).result(timeout_s=TIMEOUT_S) == [2, 3]
        assert app.audit()["probe.orders"].ok == 3
    finally:
        rambla.stop()
    with pytest.raises(NotRunningError):
        rambla.publish("orders", 1)


def test_listeners_hear_every_event_until_they_end() -> None:
    """published, each attempt, the outcome, workers up and down; what a listener raises is logged."""
    events = Seen()

    def hear(event: Any) -> None:
        events.append(event)
        raise ValueError("a listener's own mistake")

    logging.getLogger("rambla_py.telemetry").setLevel(logging.CRITICAL)
    try:
        with running(table(probe(flaky(1)))) as app:
            end = app.listen(hear)
            assert one(app).status == "ok"
            assert until(lambda: any(event.kind == "outcome" for event in events))
            end()
            number = len(events)
            one(app)
            assert len(events) == number
    finally:
        logging.getLogger("rambla_py.telemetry").setLevel(logging.NOTSET)
    kinds = [event.kind for event in events]
    assert kinds[0] == "published"
    assert kinds.count("attempt") == 2
    assert kinds.count("outcome") == 1
    attempts = [event for event in events if event.kind == "attempt"]
    assert [event.data["error_type"] for event in attempts] == ["ValueError", None]


def test_a_listener_does_not_open_an_app_that_was_stopped() -> None:
    """A listener added before the start, or removed after the stop, changes nothing for publishers."""
    app = Rambla(table(probe(lambda message: None)))
    app.listen(lambda event: None)()
    with pytest.raises(NotRunningError):
        app.publish("orders", "x")
    app.start()
    app.stop()
    app.listen(lambda event: None)()
    with pytest.raises(NotRunningError):
        app.publish("orders", "x")
