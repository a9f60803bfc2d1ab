"""Receipts, waiting, and publishing from an event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, service, table, until

import rambla_py as rambla
from rambla_py import (
    AccessError,
    MailboxFullError,
    PublishError,
    Rambla,
    ReceiptTimeoutError,
)


@pytest.fixture
def gate() -> Any:
    """Return an event that handlers wait for; it is set at the end, so that none of them stays."""
    event = threading.Event()
    yield event
    event.set()


def test_a_receipt_that_takes_too_long_says_how_far_it_came(gate: threading.Event) -> None:
    """ReceiptTimeoutError is a TimeoutError, with the results so far; result() may be called again."""
    handler = probe(lambda message: gate.wait(TIMEOUT_S) and 2 if message.payload == 2 else message.payload)
    with running(table(handler), gate) as app:
        receipt = app.publish_many("orders", [0, 1, 2])
        assert until(lambda: app.audit()["probe.orders"].ok == 2)
        with pytest.raises(TimeoutError) as caught:
            receipt.result(timeout_s=0.01)
        assert isinstance(caught.value, ReceiptTimeoutError)
        assert (caught.value.done, caught.value.total, caught.value.results) == (2, 3, [0, 1, None])
        assert not receipt.done()
        gate.set()
        assert receipt.result(timeout_s=TIMEOUT_S) == [0, 1, 2]
        assert receipt.done()


def test_a_receipt_that_takes_too_long_says_why_nothing_connects() -> None:
    """Of each target where messages wait, redacted; up to three of them in the text."""

    def connect(self: Any) -> Any:
        raise AccessError("refused for canary-hunter2")

    secret = {"connections": {"here": {"password": rambla.Secret("canary-hunter2")}}}
    unreachable = service(probe(lambda message: None, connect=connect), orders={}) | secret
    config = {f"s{at}": unreachable for at in range(5)}
    app = Rambla(config).start()
    receipt = app.publish("orders", 1)
    assert until(lambda: all(status.state == "down" for status in app.status().values()))
    for wait in (receipt.result, receipt.outcomes):
        with pytest.raises(ReceiptTimeoutError) as caught:
            wait(timeout_s=0.01)
        assert len(caught.value.obstacles) == 5
        assert "; s0.orders is down: AccessError: refused for ***; s1.orders" in str(caught.value)
        assert str(caught.value).endswith("; and 2 more targets")
    app.stop(timeout_s=0)


def test_a_failure_is_raised_with_all_outcomes() -> None:
    """PublishError names the targets that failed, and has the outcome of each."""
    config = {
        "good": service(probe(lambda message: "fine"), orders={}),
        "bad": service(probe(flaky(99)), orders={"options": {"retries": 1}}),
    }
    with running(config) as app, pytest.raises(PublishError, match=r"bad\.orders fatal") as caught:
        app.publish("orders", 1).result(timeout_s=TIMEOUT_S)
    assert [outcome.status for outcome in caught.value.outcomes] == ["ok", "fatal"]
    assert caught.value.outcomes[1].attempts == 2


def test_many_threads_may_wait_for_one_receipt(gate: threading.Event) -> None:
    """Each of them gets the result."""
    results = Seen()
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S) and 7)), gate) as app:
        receipt = app.publish("orders", 1)
        for _ in range(10):
            threading.Thread(target=lambda: results.append(receipt.result(TIMEOUT_S)), daemon=True).start()
        gate.set()
        assert results.wait(10) == [7] * 10


def test_a_receipt_can_be_awaited_by_many_tasks() -> None:
    """A thousand tasks of a loop publish and await concurrently; the loop keeps running."""

    async def main(app: Rambla) -> list[Any]:
        async def task(number: int) -> Any:
            return await app.publish("orders", number)

        return await asyncio.wait_for(asyncio.gather(*map(task, range(1_000))), TIMEOUT_S)

    with running(table(probe(lambda message: message.payload))) as app:
        assert asyncio.run(main(app)) == list(range(1_000))


def test_awaiting_a_failure_raises_it_and_awaiting_twice_is_allowed() -> None:
    """``await receipt`` raises PublishError, and gives the result to as many as ask, also when done."""

    async def main(app: Rambla) -> None:
        with pytest.raises(PublishError):
            await app.publish("orders", "bad", retries=0)
        receipt = app.publish("orders", "good")
        assert await asyncio.wait_for(_both(receipt), TIMEOUT_S) == ["good", "good"]
        assert await receipt == "good"

    async def _both(receipt: Any) -> list[Any]:
        async def wait() -> Any:
            return await receipt

        return list(await asyncio.gather(wait(), wait()))

    def handle(message: Any) -> Any:
        return message.payload if message.payload == "good" else 1 / 0

    with running(table(probe(handle))) as app:
        asyncio.run(main(app))


def test_a_task_that_stops_waiting_affects_no_other(gate: threading.Event) -> None:
    """Cancelled and timed-out waiters, even of a closed loop, do not keep the receipt from the others."""

    async def impatient(receipt: Any) -> None:
        async def wait() -> None:
            await receipt

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wait(), 0.01)

    async def leave_behind(receipt: Any) -> None:
        asyncio.get_running_loop().call_soon(lambda: None)
        task = asyncio.ensure_future(_await(receipt))
        await asyncio.sleep(0)
        task.cancel()

    async def _await(receipt: Any) -> Any:
        return await receipt

    with running(table(probe(lambda message: gate.wait(TIMEOUT_S) and "done")), gate) as app:
        receipt = app.publish("orders", 1)
        asyncio.run(impatient(receipt))
        asyncio.run(leave_behind(receipt))
        gate.set()
        assert receipt.result(timeout_s=TIMEOUT_S) == "done"


def test_done_callbacks_run_once_before_and_after_the_end(gate: threading.Event) -> None:
    """Those added early and those added late are called once, with the receipt, which is done."""
    calls = Seen()
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S))), gate) as app:
        receipt = app.publish("orders", 1)
        receipt.add_done_callback(lambda done: calls.append(("early", done is receipt, done.done())))
        assert not calls
        gate.set()
        calls.wait(1)
        receipt.add_done_callback(lambda done: calls.append(("late", done is receipt, done.done())))
        assert calls.wait(2) == [("early", True, True), ("late", True, True)]
    assert len(calls) == 2


def test_a_done_callback_that_raises_affects_no_other(gate: threading.Event) -> None:
    """Early or late, what it raises is logged: the next callback runs, and the worker continues."""
    calls = Seen()

    def explode(receipt: Any) -> None:
        raise SystemExit("from a done callback")

    with running(table(probe(lambda message: gate.wait(TIMEOUT_S))), gate) as app:
        receipt = app.publish_many("orders", [1, 2])
        receipt.add_done_callback(explode)
        receipt.add_done_callback(calls.append)
        gate.set()
        assert calls.wait(1) == [receipt]
        receipt.add_done_callback(explode)
        assert one(app).status == "ok"


def test_the_receipt_is_done_before_the_callbacks_run(gate: threading.Event) -> None:
    """A callback that waits for its own receipt finds it resolved."""
    found = Seen()
    box: list[Any] = []

    def on_success(outcome: Any) -> None:
        gate.wait(TIMEOUT_S)
        found.append(box[0].result(timeout_s=1.0))

    with running(table(probe(lambda message: 5), {"callbacks": {"on_success": on_success}})) as app:
        box.append(app.publish("orders", 1))
        assert box[0].result(timeout_s=TIMEOUT_S) == 5
        gate.set()
        assert found.wait(1) == [5]


def test_the_level_of_a_receipt_is_that_of_its_weakest_delivery(gate: threading.Event) -> None:
    """accepted, then confirmed; unknown where the answer was lost; accepted where it failed."""

    def handle(message: Any) -> None:
        gate.wait(TIMEOUT_S)
        if message.payload == "lost":
            raise rambla.UnknownOutcomeError("gone")
        if message.payload == "bad":
            raise rambla.PermanentError("no")

    with running(table(probe(handle), on_unknown="report"), gate) as app:
        receipts = {name: app.publish("orders", name) for name in ("good", "lost", "bad")}
        assert {receipt.level for receipt in receipts.values()} == {"accepted"}
        gate.set()
        assert app.flush(TIMEOUT_S)
        levels = {name: receipt.level for name, receipt in receipts.items()}
    assert levels == {"good": "confirmed", "lost": "unknown", "bad": "accepted"}


def test_publish_async_waits_for_room_and_leaves_the_loop_alone(gate: threading.Event) -> None:
    """With a full mailbox it waits while other tasks run, and gives a receipt once there is room."""
    handler = probe(lambda message: gate.wait(TIMEOUT_S) and message.payload)

    async def main(app: Rambla) -> Any:
        waiting = asyncio.ensure_future(app.publish_async("orders", "late"))
        ticks = 0
        while ticks < 50:
            await asyncio.sleep(0)
            ticks += 1
        assert not waiting.done()
        gate.set()
        return await (await asyncio.wait_for(waiting, TIMEOUT_S))

    with running(table(handler, max_pending=1), gate) as app:
        app.publish("orders", "in flight")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        app.publish("orders", "waiting")
        assert asyncio.run(main(app)) == "late"


def test_publish_async_gives_up_after_its_time(gate: threading.Event) -> None:
    """Without room for ``publish_timeout_s`` it raises MailboxFullError, and nothing is accepted."""
    with running(
        table(probe(lambda message: gate.wait(TIMEOUT_S)), max_pending=1, publish_timeout_s=0.1), gate
    ) as app:
        app.publish("orders", "in flight")
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        app.publish("orders", "waiting")
        with pytest.raises(MailboxFullError, match="publish_timeout_s"):
            asyncio.run(app.publish_async("orders", "late"))
        assert app.audit()["probe.orders"].accepted == 2


def test_publish_async_takes_any_iterable_of_names() -> None:
    """An iterator of names, which can be read once only, is enough."""

    async def main(app: Rambla) -> Any:
        return await (await app.publish_async(iter(["a", "b"]), 7))

    with running({"probe": service(probe(lambda message: message.payload), a={}, b={})}) as app:
        assert asyncio.run(main(app)) == [7, 7]
