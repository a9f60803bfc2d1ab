"""DESIGN 11.8 and 11.9: stopping, interrupting a stop, and waiting on an event loop."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, table, until

import rambla_py as rambla
from rambla_py import (
    AlreadyRunningError,
    ConnectionLostError,
    Handler,
    NotRunningError,
    OptionError,
    Rambla,
    ReceiptTimeoutError,
)


def unreachable(self: Handler) -> None:
    raise ConnectionLostError("nothing listens there")


@pytest.mark.parametrize("timeout_s", ["5", -1, math.nan, 2e9, object()])
def test_a_time_that_is_none_stops_nothing(timeout_s: Any) -> None:
    """``stop``, ``astop``, ``flush`` and ``ping`` refuse it, and the app keeps running."""
    with Rambla(table(probe(lambda message: None))) as app:
        for call in (app.stop, app.flush, lambda time_s: app.ping(None, time_s)):
            with pytest.raises(OptionError, match="timeout_s"):
                call(timeout_s)
        with pytest.raises(OptionError, match="timeout_s"):
            asyncio.run(app.astop(timeout_s))
        assert one(app).status == "ok"


@pytest.mark.parametrize("timeout_s", [None, math.inf])
def test_a_stop_without_a_limit_delivers_everything(timeout_s: float | None) -> None:
    """Also what is due later; it returns as soon as nothing is left."""
    app = Rambla(table(probe(lambda message: None))).start()
    late = app.publish("orders", 1, delay_s=0.3)
    assert app.stop(timeout_s)["probe.orders"].ok == 1
    assert late.done()


def test_one_line_a_target_counts_what_a_stop_left(caplog: pytest.LogCaptureFixture) -> None:
    """Dropped and unknown, in one WARNING; no line for each of them."""

    def keep(self: Handler, deliveries: Any, state: Any) -> None:
        taken.extend(deliveries)

    taken = Seen()
    app = Rambla(table(probe(handle_deliveries=keep), max_in_flight=3, batch_size=3)).start()
    app.publish_many("orders", range(10))
    taken.wait(3)
    with caplog.at_level(logging.WARNING):
        account = app.stop(timeout_s=0.1)["probe.orders"]
    assert (account.dropped, account.unknown, account.pending) == (7, 3, 0)
    assert caplog.messages == ["probe.orders: 10 not delivered (7 dropped, 3 unknown)"]


def test_a_stop_takes_no_longer_than_its_time_and_half_a_second(gate: threading.Event) -> None:
    """With a handler, a callback and a ``close`` that all hang."""

    def hang(*_: Any) -> None:
        gate.wait(TIMEOUT_S)

    callbacks = dict.fromkeys(("on_failure", "on_outcome"), hang)
    app = Rambla(table(probe(hang, close=hang), {"callbacks": callbacks}, count=3)).start()
    app.publish_many("orders", range(20))
    began = time.monotonic()
    app.stop(timeout_s=0.3)
    took_s = time.monotonic() - began
    gate.set()
    assert took_s < 0.9


def interrupted_stop(app: Rambla, timeout_s: float = 60) -> None:
    """Interrupt a stop as a cancelled task does, and see that it leaves at once."""

    async def main() -> None:
        stopping = asyncio.create_task(app.astop(timeout_s=timeout_s))
        while not (status := app.status()) or status["probe.orders"].state != "closing":
            await asyncio.sleep(0.001)
        stopping.cancel()
        with suppress(asyncio.CancelledError):
            await stopping
        assert stopping.cancelled()

    asyncio.run(main())


def test_after_an_interruption_workers_continue_and_the_next_stop_finishes(gate: threading.Event) -> None:
    """The app accepts nothing and cannot be started; what waits is delivered."""
    app = Rambla(table(probe(lambda message: gate.wait(TIMEOUT_S)))).start()
    receipts = [app.publish("orders", number) for number in range(5)]
    interrupted_stop(app)
    with pytest.raises(NotRunningError):
        app.publish("orders", "late")
    with pytest.raises(AlreadyRunningError, match=r"stop\(\)"):
        app.start()
    gate.set()
    assert all(until(receipt.done) for receipt in receipts)
    assert app.stop(timeout_s=TIMEOUT_S)["probe.orders"].ok == 5
    app.start()
    assert one(app).status == "ok"
    app.stop()


def test_an_interrupted_stop_drops_nothing_more_for_being_due_late(gate: threading.Event) -> None:
    """A retry that is due after the time of the interrupted stop is delivered."""
    attempts = Seen()

    def handle(message: Any) -> None:
        attempts.append(message.payload)
        if len(attempts) == 1:
            gate.wait(TIMEOUT_S)
            raise RuntimeError("once")

    callbacks = {"on_failure": lambda outcome: rambla.Retry(delay_s=1.0)}
    app = Rambla(table(probe(handle), {"callbacks": callbacks})).start()
    receipt = app.publish("orders", 1)
    attempts.wait(1)
    interrupted_stop(app, timeout_s=0.8)
    gate.set()
    assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
    app.stop(timeout_s=0)


def test_a_stop_from_another_thread_joins() -> None:
    """Both return once the app has stopped, with the same accounts."""
    entered, gate = threading.Event(), threading.Event()

    def handle(message: Any) -> None:
        entered.set()
        gate.wait(TIMEOUT_S)

    app = Rambla(table(probe(handle))).start()
    app.publish("orders", 1)
    assert entered.wait(TIMEOUT_S)
    accounts: list[Any] = []
    threads = [threading.Thread(target=lambda: accounts.append(app.stop(TIMEOUT_S))) for _ in range(3)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert accounts == [app.audit()] * 3
    assert app.audit()["probe.orders"].ok == 1


def test_when_the_stop_that_others_joined_is_interrupted_they_go_on() -> None:
    """A second stop is left waiting: it finishes by its own time."""
    gate = threading.Event()
    app = Rambla(table(probe(lambda message: gate.wait(TIMEOUT_S)))).start()
    app.publish("orders", 1)
    joined: list[Any] = []

    async def main() -> None:
        first = asyncio.create_task(app.astop(timeout_s=60))
        await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: joined.append(app.stop(timeout_s=0.2)))
        thread.start()
        assert await asyncio.to_thread(until, lambda: len(app._lifecycle._shutdown._requests) == 2)  # type: ignore[union-attr]
        first.cancel()
        await asyncio.to_thread(thread.join)

    with suppress(asyncio.CancelledError):
        asyncio.run(main())
    gate.set()
    assert joined[0]["probe.orders"].unknown == 1


# -- waiting on an event loop ---------------------------------------------------------------------------


def test_the_async_twins_leave_the_loop_alone() -> None:
    """``aflush``, ``aping`` and ``astop`` wait while other tasks run, without a warning."""
    steps = 0

    async def main() -> None:
        nonlocal steps

        async def tick() -> None:
            nonlocal steps
            while True:
                await asyncio.sleep(0.01)
                steps += 1

        ticking = asyncio.create_task(tick())
        app = Rambla(table(probe(lambda message: None, connect=unreachable))).start()
        app.publish("orders", 1)
        assert await app.aflush(timeout_s=0.2) is False
        assert [ping.ok for ping in await app.aping(timeout_s=1)] == [False]
        assert (await app.astop(timeout_s=0.2))["probe.orders"].dropped == 1
        ticking.cancel()

    asyncio.run(main())
    assert steps >= 20


@pytest.mark.parametrize(("name", "twin"), [("flush", "aflush"), ("ping", "aping"), ("stop", "astop")])
def test_a_blocking_call_in_a_loop_warns_and_blocks(name: str, twin: str) -> None:
    """The warning names the twin; once there is nothing to wait for, there is none."""
    arguments: dict[str, Any] = {"timeout_s": 0.2}

    async def main() -> None:
        app = Rambla(table(probe(lambda message: None, connect=unreachable))).start()
        app.publish("orders", 1)
        with pytest.warns(RuntimeWarning, match=re.escape(f"await {twin}()")):
            getattr(app, name)(**arguments)
        await app.astop(timeout_s=0)
        app.stop()

    asyncio.run(main())


def test_a_flush_without_a_time_ends_when_nothing_ends_any_more() -> None:
    """It raises after ``result_timeout_s``, naming the setting; with a time it returns False."""
    config = {"rambla": {"result_timeout_s": 0.2}, **table(probe(lambda message: None, connect=unreachable))}
    app = Rambla(config).start()
    receipt = app.publish("orders", 1)
    for wait in (app.flush, receipt.result, receipt.outcomes):
        with pytest.raises(ReceiptTimeoutError, match=r"\[rambla\] result_timeout_s = 0\.2"):
            wait()
    assert app.flush(timeout_s=0) is False
    app.stop(timeout_s=0)


def test_a_second_start_of_the_default_app_is_refused() -> None:
    """It names ``stop``; the first app keeps running."""
    first = rambla.start(table(probe(lambda message: None)))
    try:
        with pytest.raises(AlreadyRunningError, match=r"rambla_py\.stop\(\)"):
            rambla.start(table(probe(lambda message: None)))
        assert one(first).status == "ok"
    finally:
        assert rambla.stop()["probe.orders"].ok == 1
    rambla.start(table(probe(lambda message: None)))
    rambla.stop()
