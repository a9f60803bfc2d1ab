"""Room in the mailboxes of a call: each target has its own, and one deadline bounds the wait."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from small_apps import AT_ONCE, TIMEOUT_S, Seen, probe, running, service, table, until

from rambla_py import ConnectionLostError, Handler, MailboxFullError, Rambla, Receipt

PUBLISHERS = ["publish", "publish_async", "publish_many", "publish_many_async"]


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return what a handler waits for; opened at the end of the test, whatever it did."""
    event = threading.Event()
    yield event
    event.set()


def held(gate: threading.Event) -> type[Handler]:
    """Return a handler that takes one message at a time and waits for the gate."""
    return probe(lambda message: gate.wait(TIMEOUT_S))


def away() -> type[Handler]:
    """Return a handler whose server cannot be reached."""

    def connect(self: Handler) -> None:
        raise ConnectionLostError("refused")

    return probe(lambda message: None, connect=connect)


def two_targets(slow: type[Handler], arrived: Seen, **channel: Any) -> dict[str, Any]:
    """Return a channel that fans out to a handler and to one that takes everything."""
    healthy = probe(lambda message: arrived.append(message.payload))
    return {"slow": service(slow, orders=channel), "healthy": service(healthy, orders=channel)}


def publish(app: Rambla, way: str, payload: Any) -> Receipt:
    """Publish one message by any of the four methods, each called where it may wait."""
    argument = [payload] if "many" in way else payload
    if "async" not in way:
        return getattr(app, way)("orders", argument)

    async def run() -> Receipt:
        return await getattr(app, way)("orders", argument)

    return asyncio.run(run())


def fill(app: Rambla, name: str = "probe.orders") -> None:
    """Publish until one is in flight and the mailbox is full."""
    app.publish("orders", "first")
    assert until(lambda: app.status()[name].in_flight == 1)
    while app.status()[name].queued < app.status()[name].max_pending:
        app.publish("orders", "filler")


@pytest.mark.parametrize("way", PUBLISHERS)
def test_a_full_target_does_not_keep_messages_from_the_others(way: str) -> None:
    """The healthy target gets all of them at once; the one that is away drops what finds no room."""
    arrived = Seen()
    config = two_targets(away(), arrived, max_pending=5, publish_timeout_s=0.3)
    with running(config, stop_s=0.0) as app:
        receipts = [publish(app, way, number) for number in range(5)]
        assert until(lambda: app._targets()[0].state.away_s() > 0.3)
        began = time.monotonic()
        receipts += [publish(app, way, number) for number in range(5, 30)]
        assert time.monotonic() - began < 3.0
        assert sorted(arrived.wait(30)) == list(range(30))
        dropped = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts[5:]]
        audits = app.audit()
    assert {outcome.status for outcome in dropped} == {"dropped"}
    assert (audits["slow.orders"].accepted, audits["healthy.orders"].accepted) == (30, 30)


@pytest.mark.parametrize("way", PUBLISHERS)
def test_a_single_target_is_waited_for_although_it_is_away(way: str) -> None:
    """The call raises after publish_timeout_s, and is counted as refused."""
    with running(table(away(), max_pending=2, publish_timeout_s=0.3), stop_s=0.0) as app:
        for number in range(2):
            app.publish("orders", number)
        assert until(lambda: app._targets()[0].state.away_s() > 0.3)
        began = time.monotonic()
        with pytest.raises(MailboxFullError, match=r"no room within publish_timeout_s = 0.3"):
            publish(app, way, 2)
        assert 0.29 <= time.monotonic() - began < 2.0
        assert app.status()["probe.orders"].refused == 1
        assert app.audit()["probe.orders"].accepted == 2


def test_one_deadline_for_all_targets_of_a_call(gate: threading.Event) -> None:
    """Three full targets are waited for together, not one after the other."""
    config = {
        name: service(held(gate), orders={"max_pending": 1, "publish_timeout_s": 0.5}) for name in "abc"
    }
    with running(config, gate, stop_s=TIMEOUT_S) as app:
        app.publish("orders", 1)
        assert until(lambda: all(status.in_flight == 1 for status in app.status().values()))
        app.publish("orders", 2)
        began = time.monotonic()
        with pytest.raises(MailboxFullError):
            app.publish("orders", 3)
        assert 0.49 <= time.monotonic() - began < 1.0
        assert [status.refused for status in app.status().values()] == [1, 1, 1]
        gate.set()


@pytest.mark.parametrize("way", ["publish_many", "publish_many_async"])
def test_many_messages_enter_as_room_appears(way: str) -> None:
    """A slow target takes far more than its mailbox holds, for longer than publish_timeout_s in all."""
    slow = probe(lambda message: time.sleep(0.02))
    with running(table(slow, max_pending=5, publish_timeout_s=0.3)) as app:
        began = time.monotonic()

        async def run() -> Receipt:
            return await app.publish_many_async("orders", range(60))

        receipt = asyncio.run(run()) if "async" in way else app.publish_many("orders", range(60))
        assert time.monotonic() - began > 0.6
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)} == {"ok"}


def test_what_finds_no_room_after_others_did_is_dropped(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing raises once a message is accepted: the rest is dropped, summed up in the log."""
    with (
        caplog.at_level(logging.WARNING, "rambla_py"),
        running(table(held(gate), max_pending=5, publish_timeout_s=0.2), gate) as app,
    ):
        app.publish("orders", "first")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        receipt = app.publish_many("orders", range(50))
        gate.set()
        statuses = [outcome.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)]
        assert app.status()["probe.orders"].refused == 0
    assert statuses == ["ok"] * 5 + ["dropped"] * 45
    lines = [record.getMessage() for record in caplog.records if "mailbox full" in record.getMessage()]
    assert len(lines) == 2
    assert "44 more dropped" in lines[1]


@pytest.mark.parametrize("way", ["publish", "publish_many"])
@pytest.mark.parametrize("place", ["loop", "worker", "callback"])
def test_where_a_call_may_not_wait_it_raises_before_anything_is_accepted(
    way: str, place: str, gate: threading.Event
) -> None:
    """Event loop, handler and callback: no target gets the message, and the error names publish_async."""
    raised, arrived = Seen(), Seen()
    attempt: list[Callable[[], None]] = []

    def call() -> None:
        try:
            publish(app, way, "refused")
        except MailboxFullError as error:
            raised.append(error)

    def handle(message: Any) -> None:
        if attempt and place == "worker":
            attempt.pop()()

    config = two_targets(held(gate), arrived, max_pending=2)
    config["caller"] = service(
        probe(handle), call={"options": {"callbacks": {"on_outcome": lambda o: after()}}}
    )

    def after() -> None:
        if attempt and place == "callback":
            attempt.pop()()

    async def in_loop() -> None:
        call()

    with running(config, gate) as app:
        fill(app, "slow.orders")
        assert until(lambda: app.status()["healthy.orders"].queued == 0)
        before = app.audit()["healthy.orders"].accepted
        if place == "loop":
            asyncio.run(in_loop())
        else:
            attempt.append(call)
            app.publish("call", 1).result(timeout_s=TIMEOUT_S)
        error = raised.wait()[0]
        assert "publish_async" in str(error)
        assert app.audit()["healthy.orders"].accepted == before
        assert app.status()["slow.orders"].refused == 1
        assert app.status()["healthy.orders"].refused == 0


@pytest.mark.parametrize("overflow", ["raise", "block"])
def test_a_key_that_waits_for_a_retry_is_bounded(overflow: str) -> None:
    """Over max_pending_key a call does not wait; other keys, and messages without one, have room."""
    tries = Seen()

    def handle(message: Any) -> None:
        tries.append(message.payload)
        if message.payload == "head":
            raise ValueError("not yet")

    options = {"backoff": {"initial_s": 60, "max_s": 60}}
    config = table(probe(handle), options, max_pending=10, overflow=overflow, max_pending_key=4)
    with running(config, stop_s=0.0) as app:
        app.publish("orders", "head", key="k")
        tries.wait()
        assert until(lambda: app._targets()[0].mailbox.behind_a_retry("k") == 1)
        for number in range(3):
            app.publish("orders", number, key="k")
        began = time.monotonic()
        with pytest.raises(MailboxFullError, match="max_pending_key"):
            app.publish("orders", 4, key="k")
        assert time.monotonic() - began < 1.0
        assert app.status()["probe.orders"].refused == 1
        assert app.publish("orders", "x", key="other").result(timeout_s=TIMEOUT_S) is None
        assert app.publish("orders", "x").result(timeout_s=TIMEOUT_S) is None
        statuses = app.publish_many("orders", [1, 2], key="other").outcomes(timeout_s=TIMEOUT_S)
        assert {outcome.status for outcome in statuses} == {"ok"}


def test_max_pending_key_is_half_of_max_pending() -> None:
    """Unless it is set."""
    config = Rambla(table(probe(print), {"backoff": AT_ONCE}, max_pending=10))
    with config as app:
        assert app._targets()[0].backpressure._max_key == 5
