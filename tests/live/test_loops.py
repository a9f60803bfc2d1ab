"""Publishing from event loops, workers and callbacks; stopping from where one is not expected."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rambla_py import Handler, MailboxFullError, Outcome, Rambla, Receipt
from rambla_py.handler import State


class Gated(Handler):
    """Delivers nothing before its gate is opened; keeps what it delivered."""

    gate: ClassVar[threading.Event]
    got: ClassVar[list[Any]]

    def handle_publish(self, message: Any, options: Any, state: State) -> None:
        type(self).gate.wait(20)
        type(self).got.append(message.payload)


class AsyncCounting(Handler):
    """Counts how many messages it has in flight at once."""

    at_once = most = 0

    async def handle_publish(self, message: Any, options: Any, state: State) -> Any:
        kind = type(self)
        kind.at_once += 1
        kind.most = max(kind.most, kind.at_once)
        await asyncio.sleep(0.05)
        kind.at_once -= 1
        return message.payload


class Acting(Handler):
    """Runs its payload, a function, as part of the delivery."""

    def handle_publish(self, message: Any, options: Any, state: State) -> Any:
        return message.payload["act"]()


class AsyncActing(Handler):
    """Runs its payload on its own event loop."""

    async def handle_publish(self, message: Any, options: Any, state: State) -> Any:
        return message.payload["act"]()


def table(handler: type[Handler], **channel: Any) -> dict[str, Any]:
    return {
        "test": {
            "handler": handler,
            "connections": {"here": {}},
            "channels": {"orders": {"connection": "here", **channel}},
        }
    }


def file_table(path: Path, **channel: Any) -> dict[str, Any]:
    return {
        "file": {
            "connections": {"here": {"path": str(path)}},
            "channels": {"orders": {"connection": "here", **channel}},
        }
    }


@pytest.fixture
def gated() -> type[Gated]:
    """A handler class with a gate of its own."""
    return type("Fresh", (Gated,), {"gate": threading.Event(), "got": []})


def test_a_thousand_tasks_await_at_once(tmp_path: Path) -> None:
    """A thousand tasks of one loop each publish and await, and each gets its own result."""

    async def one(app: Rambla, number: int) -> int:
        await app.publish("orders", {"number": number})
        return number

    async def main() -> list[int]:
        async with Rambla(file_table(tmp_path / "out")) as app:
            return await asyncio.gather(*(one(app, number) for number in range(1_000)))

    assert asyncio.run(main()) == list(range(1_000))
    assert len((tmp_path / "out").read_text().splitlines()) == 1_000


def test_async_handlers_work_on_many_messages_at_once() -> None:
    """The messages of a batch are with an async handler at the same time, and each has its own result."""
    with Rambla(table(AsyncCounting)) as app:
        receipt = app.publish_many("orders", list(range(50)))
        assert receipt.result(timeout_s=20) == list(range(50))
    assert AsyncCounting.most > 10


def test_async_with_stops_at_its_end(tmp_path: Path) -> None:
    """At the end of ``async with`` everything is delivered, and the loop went on meanwhile."""
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    async def main() -> Receipt:
        ticking = asyncio.create_task(tick())
        async with Rambla(file_table(tmp_path / "out", rate_limit="20/s")) as app:
            receipt = app.publish_many("orders", list(range(30)))
        ticking.cancel()
        return receipt

    receipt = asyncio.run(main())
    assert [outcome.status for outcome in receipt.outcomes()] == ["ok"] * 30
    assert ticks > 10


def test_a_cancelled_task_does_not_take_its_message_back(gated: type[Gated]) -> None:
    """Cancelling an await affects neither the delivery nor other awaits of the same receipt."""

    async def main(app: Rambla) -> None:
        receipt = app.publish("orders", "kept")

        async def wait() -> Any:
            return await receipt

        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        gated.gate.set()
        assert await asyncio.wait_for(second, 20) is None
        assert first.cancelled()

    with Rambla(table(gated)) as app:
        asyncio.run(main(app))
    assert gated.got == ["kept"]


def test_a_loop_may_end_while_receipts_are_pending(
    gated: type[Gated], caplog: pytest.LogCaptureFixture
) -> None:
    """What a closed loop awaited is delivered all the same, and nothing complains."""

    async def main(app: Rambla) -> Receipt:
        receipt = app.publish("orders", "kept")

        async def wait() -> None:
            await receipt

        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        return receipt

    with Rambla(table(gated)) as app:
        receipt = asyncio.run(main(app))
        gated.gate.set()
        assert receipt.outcomes(timeout_s=20)[0].status == "ok"
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []


def _overfill(app: Rambla) -> None:
    for number in range(20):
        app.publish("orders", number)


def test_publish_in_a_loop_raises_when_there_is_no_room(gated: type[Gated]) -> None:
    """Inside a running loop a full mailbox is an error at once, which names ``publish_async``."""

    async def main(app: Rambla) -> None:
        with pytest.raises(MailboxFullError, match="publish_async") as caught:
            _overfill(app)
        assert caught.value.waited_s is None

    with Rambla(table(gated, max_pending=5, batch_size=1)) as app:
        asyncio.run(main(app))
        gated.gate.set()


def test_publish_async_waits_for_room_without_blocking_the_loop(gated: type[Gated]) -> None:
    """While ``publish_async`` waits, other tasks run: here, the one that makes room."""

    async def main(app: Rambla) -> list[Receipt]:
        async def open_gate() -> None:
            gated.gate.set()

        async def publish() -> list[Receipt]:
            return [await app.publish_async("orders", number) for number in range(40)]

        receipts, _ = await asyncio.gather(publish(), open_gate())
        await asyncio.gather(*(_result(receipt) for receipt in receipts))
        return receipts

    async def _result(receipt: Receipt) -> Any:
        return await receipt

    with Rambla(table(gated, max_pending=5, batch_size=1)) as app:
        assert len(asyncio.run(main(app))) == 40
    assert sorted(gated.got) == list(range(40))


@pytest.mark.parametrize("handler", [Acting, AsyncActing])
def test_a_handler_may_publish_and_is_never_made_to_wait_for_room(handler: type[Handler]) -> None:
    """Publishing from within a delivery is accepted; a full mailbox is an error at once: it would wait for itself."""

    def overfill() -> str:
        accepted = [app.publish("orders", {"act": str}) for _ in range(5)]
        try:
            app.publish("orders", {"act": str})
        except MailboxFullError as error:
            return f"{len(accepted)} accepted, waited {error.waited_s}"
        return "no error"

    with Rambla(table(handler, max_pending=5, batch_size=1, max_in_flight=1)) as app:
        result = app.publish("orders", {"act": overfill}).result(timeout_s=20)
        assert result == "5 accepted, waited None"
        assert app.flush(timeout_s=20)
        assert app.audit()["test.orders"].ok == 6


def test_a_callback_may_publish(gated: type[Gated]) -> None:
    """What ``on_success`` publishes is delivered by the worker that called it."""
    receipts: list[Receipt] = []
    done = threading.Event()

    def again(outcome: Outcome) -> None:
        if outcome.payload == "first":
            receipts.append(app.publish("orders", "second"))
            done.set()

    gated.gate.set()
    with Rambla(table(gated)) as app:
        app.publish("orders", "first", callbacks={"on_success": again})
        assert done.wait(20)
        receipts[0].result(timeout_s=20)
    assert gated.got == ["first", "second"]


def _stop_in_handler(app: Rambla, reported: Callable[[Any], None]) -> None:
    app.publish("orders", {"act": lambda: reported(app.stop())})


def _stop_in_receipt_callback(app: Rambla, reported: Callable[[Any], None]) -> None:
    app.publish("orders", {"act": str}).add_done_callback(lambda receipt: reported(app.stop()))


def _stop_in_on_success(app: Rambla, reported: Callable[[Any], None]) -> None:
    app.publish("orders", {"act": str}, callbacks={"on_success": lambda outcome: reported(app.stop())})


@pytest.mark.parametrize("handler", [Acting, AsyncActing])
@pytest.mark.parametrize("stop", [_stop_in_handler, _stop_in_receipt_callback, _stop_in_on_success])
def test_stop_from_within_a_worker_returns_at_once_and_delivers_what_waits(
    stop: Callable[[Rambla, Callable[[Any], None]], None], handler: type[Handler]
) -> None:
    """``stop()`` cannot wait for the worker that calls it: it continues in the background and loses nothing."""
    answers: list[Any] = []
    answered = threading.Event()

    def reported(answer: Any) -> None:
        answers.append(answer)
        answered.set()

    gate = threading.Event()
    app = Rambla(table(handler, batch_size=1, max_in_flight=1)).start()
    app.publish("orders", {"act": lambda: gate.wait(20)})  # all of it waits before stop() is called
    stop(app, reported)
    receipts = [app.publish("orders", {"act": str}) for _ in range(10)]
    gate.set()
    assert answered.wait(20)
    assert [list(answer) for answer in answers] == [["test.orders"]]
    statuses = [receipt.outcomes(timeout_s=20)[0].status for receipt in receipts]
    assert statuses == ["ok"] * 10
    app.stop()
    assert app.audit()["test.orders"].ok == 12


def test_two_apps_share_nothing(gated: type[Gated], tmp_path: Path) -> None:
    """One app is stuck and stopped, and the other, with the same channel name, does not notice."""
    with Rambla(file_table(tmp_path / "out")) as healthy:
        stuck = Rambla(table(gated)).start()
        stuck.publish("orders", "waits")
        healthy.publish("orders", 1).result(timeout_s=20)
        stuck.stop(timeout_s=0.05)
        healthy.publish("orders", 2).result(timeout_s=20)
        gated.gate.set()
        assert healthy.audit()["file.orders"].ok == 2
    assert (tmp_path / "out").read_text().splitlines() == ["1", "2"]
