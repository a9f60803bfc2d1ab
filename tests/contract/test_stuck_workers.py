"""Handlers and callbacks that hang."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, table, until
from supervision_cases import connecting, status_of

from rambla_py import (
    ConnectionLostError,
    Failed,
    Handler,
)


@pytest.mark.parametrize("level", ["publish", "batch", "deliveries", "async", "never settled"])
def test_an_attempt_that_hangs_is_given_up(level: str, gate: threading.Event) -> None:
    """After attempt_timeout_s the connection is closed and the attempt repeated; the late answer is ignored."""
    connects, closed, calls = Seen(), Seen(), Seen()

    def first() -> bool:
        calls.append(1)
        return len(calls) == 1

    def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> str:
        return gate.wait(TIMEOUT_S) and "late" if first() else "done"  # type: ignore[return-value]

    async def handle_async(self: Handler, message: Any, options: Any, state: Any) -> str:
        if first():
            await asyncio.sleep(TIMEOUT_S)
        return "done"

    def handle_batch(self: Handler, messages: Any, state: Any) -> list[str]:
        return ["late" if first() and gate.wait(TIMEOUT_S) else "done"] * len(messages)

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        hangs = first()
        if hangs and level == "deliveries":
            gate.wait(TIMEOUT_S)
        for delivery in deliveries if not hangs else ():
            delivery.ok("done")

    members: dict[str, dict[str, Any]] = {
        "publish": {"handle_publish": handle_publish},
        "async": {"handle_publish": handle_async},
        "batch": {"handle_batch": handle_batch},
        "deliveries": {"handle_deliveries": handle_deliveries},
        "never settled": {"handle_deliveries": handle_deliveries},
    }
    handler = probe(
        connect=connecting(connects),
        close=lambda self, connection: closed.append(connection),
        **members[level],
    )
    with running(table(handler, attempt_timeout_s=0.4), gate) as app:
        receipt = app.publish("orders", 1)
        outcome = receipt.outcomes(timeout_s=4.0)[0]
        assert (outcome.status, outcome.result, outcome.attempts) == ("ok", "done", 2)
        assert 1 in closed.wait(1)
        gate.set()
        assert one(app).result == "done"
        assert app.audit()["probe.orders"].ok == 2
        assert status_of(app).workers == ["up"]


@pytest.mark.parametrize(
    "options",
    [{"delay_s": 50.0}, {"expires_s": 50.0}, {"delay_s": 50.0, "key": "k"}],
    ids=["delay", "expiry", "key"],
)
def test_a_far_alarm_does_not_stop_the_clock(options: dict[str, Any], gate: threading.Event) -> None:
    """A first message that is due, or expires, in a minute: hanging attempts are given up in time all the same."""
    calls = Seen()

    def handle(message: Any) -> None:
        calls.append(message.payload)
        if len(calls) == 1:
            gate.wait(TIMEOUT_S)

    with running(table(probe(handle), attempt_timeout_s=0.15), gate, stop_s=1.0) as app:
        app.publish("orders", "far", **options)
        receipt = app.publish("orders", "near", expires_s=20.0)
        assert receipt.outcomes(timeout_s=3.0)[0].status == "ok"


def test_with_report_an_attempt_that_hangs_is_unknown(gate: threading.Event) -> None:
    """``on_unknown = "report"``: at most once, so it is not repeated."""
    calls = Seen()

    def handle(message: Any) -> None:
        calls.append(1)
        gate.wait(TIMEOUT_S)

    with running(table(probe(handle), attempt_timeout_s=0.1, on_unknown="report"), gate) as app:
        assert app.publish("orders", 1).outcomes(timeout_s=4.0)[0].status == "unknown"
        assert len(calls) == 1


def test_abandoned_workers_are_capped_and_shown(gate: threading.Event) -> None:
    """A handler that always hangs costs a bounded number of threads; then the channel is down, and says so."""
    calls = Seen()

    def handle(message: Any) -> None:
        calls.append(1)
        gate.wait(60)

    config = table(probe(handle), {"retries": 1_000}, attempt_timeout_s=0.05, max_restarts=1_000)
    with running(config, gate, stop_s=1.0) as app:
        receipt = app.publish("orders", 1, expires_s=2)
        assert until(lambda: status_of(app).state == "down")
        assert len(calls) <= 10
        stuck = [thread for thread in threading.enumerate() if thread.name == "rambla probe.orders worker 0"]
        assert 1 <= len(stuck) <= 10
        status = status_of(app)
        assert status.abandoned >= 1
        assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "unknown"


def test_a_connect_that_hangs_is_given_up(gate: threading.Event) -> None:
    """The worker is replaced, and the next connect serves the message; no attempt is spent."""
    connects, closed = Seen(), Seen()

    def connect(self: Handler) -> int:
        connects.append(1)
        number = len(connects)
        if number == 1:
            gate.wait(TIMEOUT_S)
        return number

    handler = probe(
        lambda message: None, connect=connect, close=lambda self, connection: closed.append(connection)
    )
    with running(table(handler, attempt_timeout_s=0.4), gate) as app:
        outcome = app.publish("orders", 1).outcomes(timeout_s=4.0)[0]
        assert (outcome.status, outcome.attempts) == ("ok", 1)
        gate.set()
        assert closed.wait(1)[0] == 1


def test_a_connect_that_hangs_from_the_start_is_given_up(gate: threading.Event) -> None:
    """The same on a channel that is not lazy, where connect hangs before the first publish."""
    connects = Seen()

    def connect(self: Handler) -> None:
        connects.append(1)
        if len(connects) == 1:
            gate.wait(TIMEOUT_S)

    with running(
        table(probe(lambda message: None, connect=connect), attempt_timeout_s=0.15, lazy=False), gate
    ) as app:
        connects.wait(1)
        assert app.publish("orders", 1).outcomes(timeout_s=4.0)[0].status == "ok"


def test_a_server_that_is_silent_at_connect_is_away(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """Connects that outlive attempt_timeout_s are no deaths: one warning, and delivery once it answers."""
    connects = Seen()

    def connect(self: Handler) -> None:
        connects.append(1)
        if not gate.wait(0.3):  # the driver's own time-out, longer than the channel's
            raise OSError("no answer")

    handler = probe(lambda message: None, connect=connect)
    quick = {"attempt_timeout_s": 0.05, "max_reconnect_s": 0.05, "max_restarts": 0}
    with running(table(handler, **quick), gate) as app:
        receipt = app.publish("orders", 1)
        connects.wait(12)
        assert status_of(app).state == "connecting"
        gate.set()
        outcome = receipt.outcomes(timeout_s=TIMEOUT_S)[0]
        assert (outcome.status, outcome.attempts) == ("ok", 1)
    reported = [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
    assert len(reported) == 1, reported
    assert "connecting took longer than attempt_timeout_s = 0.05" in reported[0]


def test_a_channel_whose_workers_are_stuck_comes_back_with_the_first(gate: threading.Event) -> None:
    """It is down while MAX_ABANDONED workers hang, and recovers when one returns, not after slow_restart_s."""
    connects = Seen()

    def connect(self: Handler) -> None:
        connects.append(1)
        gate.wait(60)

    handler = probe(lambda message: None, connect=connect)
    quick = {"attempt_timeout_s": 0.05, "max_reconnect_s": 0.05, "slow_restart_s": 1_000.0}
    with running(table(handler, **quick), gate) as app:
        receipt = app.publish("orders", 1)
        assert until(lambda: status_of(app).state == "down")
        assert len(connects) == status_of(app).abandoned == 8
        gate.set()
        assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
        assert status_of(app).state == "up"


@pytest.mark.parametrize("level", ["publish", "deliveries"])
def test_a_close_that_hangs_loses_nothing(level: str, gate: threading.Event) -> None:
    """What was in flight on the lost connection is tried again, although its close never returns."""
    connects, flights = Seen(), Seen()

    def close(self: Handler, connection: Any) -> None:
        gate.wait(60)

    def handle(message: Any) -> None:
        if len(connects) == 1:
            raise ConnectionLostError("gone")

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        flights.append(1)
        for delivery in deliveries:
            if len(connects) > 1:
                delivery.ok()
        if len(connects) == 1:
            self.link.lost(ConnectionLostError("gone"))

    members: Any = {"handle_deliveries": handle_deliveries} if level == "deliveries" else {"handle": handle}
    handler = probe(connect=connecting(connects), close=close, **members)
    with running(table(handler, attempt_timeout_s=0.2, batch_timeout_s=0.05), gate, stop_s=2.0) as app:
        receipt = app.publish_many("orders", range(5))
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=5.0)} == {"ok"}


@pytest.mark.parametrize("name", ["on_success", "on_failure", "on_fatal", "on_outcome"])
@pytest.mark.parametrize("level", ["publish", "batch", "deliveries"])
def test_a_callback_that_hangs_is_given_up(name: str, level: str, gate: threading.Event) -> None:
    """As if it had said None: its delivery ends, the worker is replaced, and all the others have their outcomes."""
    asked = Seen()

    def hang(outcome: Any) -> None:
        asked.append(outcome)
        if len(asked) == 1:
            gate.wait(60)

    def answer(message: Any) -> Any:
        return Failed("no") if name in ("on_failure", "on_fatal") and message.payload < 3 else None

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            reply = answer(delivery)
            delivery.ok() if reply is None else delivery.failed(reply.reason)

    members: dict[str, dict[str, Any]] = {
        "publish": {"handle": answer},
        "batch": {"handle_batch": lambda self, messages, state: [answer(message) for message in messages]},
        "deliveries": {"handle_deliveries": handle_deliveries},
    }
    options = {"retries": 0, "callbacks": {name: hang}}
    with running(table(probe(**members[level]), options, attempt_timeout_s=0.2), gate, stop_s=2.0) as app:
        outcomes = app.publish_many("orders", range(6)).outcomes(timeout_s=5.0)
        bad = 3 if name in ("on_failure", "on_fatal") else 0
        assert [outcome.status for outcome in outcomes] == ["fatal"] * bad + ["ok"] * (6 - bad)
        assert app.publish("orders", 9).outcomes(timeout_s=5.0)[0].status == "ok"
        if name != "on_fatal" or level:
            assert until(lambda: len(asked) >= (3 if bad else 7)), f"{len(asked)} were asked"


def test_after_a_callback_hung_while_its_worker_was_listed_as_idle_the_next_message_is_delivered(
    gate: threading.Event,
) -> None:
    """No wake-up is lost to the worker that was given up."""
    taken = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    callbacks = {"on_failure": lambda outcome: outcome.payload == "hangs" and gate.wait(60)}
    config = table(
        probe(handle_deliveries=handle_deliveries),
        {"retries": 0, "callbacks": callbacks},
        attempt_timeout_s=0.15,
    )
    with running(config, gate, stop_s=2.0) as app:
        hangs = app.publish("orders", "hangs")
        taken.wait(1)[0].failed("no")
        assert hangs.outcomes(timeout_s=4.0)[0].status == "fatal"
        assert until(lambda: status_of(app).workers == ["up"])
        for number in range(2, 5):
            receipt = app.publish("orders", number)
            taken.wait(number, timeout_s=3.0)[-1].ok()
            assert receipt.outcomes(timeout_s=3.0)[0].status == "ok"
