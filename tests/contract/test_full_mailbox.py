"""A full mailbox: waiting, raising, dropping."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any

import pytest
from delivery_cases import stuck
from small_apps import TIMEOUT_S, Seen, one, probe, running, service, table, until

from rambla_py import (
    DroppedError,
    Handler,
    MailboxFullError,
    Rambla,
    Retry,
)

IDENTITY_USED_AGAIN = """
import threading
from rambla_py.runtime.worker_threads import enter_worker, is_inside_worker

def in_a_thread(step):
    thread = threading.Thread(target=step)
    thread.start()
    thread.join()
    return thread.ident

inside = []
dead = in_a_thread(enter_worker)
while in_a_thread(lambda: inside.append(is_inside_worker())) != dead:
    pass
print(any(inside))
"""


def _async(step: Any) -> type[Handler]:
    async def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        step()

    return probe(handle_publish=handle_publish)


def test_a_full_mailbox_blocks_until_there_is_room(gate: threading.Event) -> None:
    """``block``, the default: publish blocks an ordinary thread until a place is free."""
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S)), max_pending=2), gate) as app:
        stuck(app, "in flight")
        app.publish_many("orders", [1, 2])
        done = Seen()
        threads = [
            threading.Thread(target=lambda: done.append(app.publish("orders", 3)), daemon=True)
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert until(lambda: len(app._targets()[0].backpressure.waiters) == 3)
        assert not done
        gate.set()
        assert {receipt.outcomes(timeout_s=TIMEOUT_S)[0].status for receipt in done.wait(3)} == {"ok"}


def test_a_thread_with_the_identity_of_a_dead_worker_may_wait() -> None:
    """Identities are used again: a worker that died without a word must not leave its mark on the next thread.

    In a process of its own: here another thread may have got the identity first, and keep it.
    """
    ended = subprocess.run(
        [sys.executable, "-c", IDENTITY_USED_AGAIN], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "False\n"


def test_many_wait_in_vain_once_and_not_each(gate: threading.Event) -> None:
    """Of a thousand without room the first waits for publish_timeout_s, those behind it end as dropped at once."""
    with running(
        table(probe(lambda message: gate.wait(TIMEOUT_S)), max_pending=1, publish_timeout_s=0.2), gate
    ) as app:
        stuck(app, "in flight")
        began = time.monotonic()
        receipt = app.publish_many("orders", range(1_000))
        assert time.monotonic() - began < 0.2 * 100
        gate.set()
        statuses = Counter(outcome.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S))
    assert statuses == {"ok": 1, "dropped": 999}


def test_block_gives_up_after_publish_timeout_s(gate: threading.Event) -> None:
    """Then MailboxFullError, and nothing is accepted; publishers that gave up leave no waiter behind."""
    with running(
        table(probe(lambda message: gate.wait(TIMEOUT_S)), max_pending=1, publish_timeout_s=0.01), gate
    ) as app:
        stuck(app, "in flight")
        app.publish("orders", 1)
        for _ in range(20):
            with pytest.raises(MailboxFullError, match="publish_timeout_s"):
                app.publish("orders", 2)
        with pytest.raises(MailboxFullError):
            app.publish("orders", 2, key="k")
        assert app.audit()["probe.orders"].accepted == 2
        assert len(app._targets()[0].backpressure.waiters) <= 1


def test_raise_raises_at_once(gate: threading.Event) -> None:
    """``overflow = "raise"``: MailboxFullError without a wait; publish_many drops what does not fit."""
    with running(
        table(probe(lambda message: gate.wait(TIMEOUT_S)), max_pending=2, overflow="raise"), gate
    ) as app:
        stuck(app, "in flight")
        receipt = app.publish_many("orders", [1, 2, 3, 4])
        assert app.audit()["probe.orders"].dropped == 2
        with pytest.raises(MailboxFullError):
            app.publish("orders", 5)
        with pytest.raises(MailboxFullError):
            app.publish_many("orders", [5, 6])
        assert app.audit()["probe.orders"].accepted == 5
        gate.set()
        outcomes = receipt.outcomes(timeout_s=TIMEOUT_S)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "dropped", "dropped"]
    assert isinstance(outcomes[3].error, DroppedError)


@pytest.mark.parametrize(("overflow", "left"), [("drop_oldest", [2, 3]), ("drop_newest", [0, 1])])
@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"priority": "high"}], ids=["plain", "key", "high"])
@pytest.mark.parametrize("form", [int, lambda number: {"number": number}], ids=["number", "dict"])
def test_drop_drops_the_oldest_or_the_newest(
    overflow: str, left: list[int], options: dict[str, Any], form: Any, gate: threading.Event
) -> None:
    """What is dropped ends as ``dropped`` with the reason; the rest is delivered, keyed messages too."""
    delivered = Seen()

    def handle(message: Any) -> None:
        gate.wait(TIMEOUT_S)
        delivered.append(message.payload)

    with running(table(probe(handle), max_pending=2, overflow=overflow), gate) as app:
        first = app.publish("orders", "in flight", **options)
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        receipts = [app.publish("orders", form(number), **options) for number in range(4)]
        gate.set()
        assert first.result(timeout_s=TIMEOUT_S) is None
        outcomes = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts]
        assert app.status()["probe.orders"].reasons.get("mailbox full") == 2
        assert app.audit()["probe.orders"].accepted == 5
    assert [o.payload for o in outcomes if o.status == "ok"] == [form(number) for number in left]
    assert {o.status for o in outcomes} == {"ok", "dropped"}
    assert delivered == ["in flight", *(form(number) for number in left)]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
def test_a_retry_is_never_dropped_or_blocked(overflow: str) -> None:
    """A delivery that was attempted keeps its place, however full the mailbox is."""
    failed, go = threading.Event(), threading.Event()

    def handle(message: Any) -> None:
        if message.payload == "retried" and message.attempts == 1:
            raise ValueError("no")
        if message.payload == "in flight":
            failed.set()
            go.wait(TIMEOUT_S)

    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.01)}
    with running(table(probe(handle), {"callbacks": callbacks}, max_pending=2, overflow=overflow), go) as app:
        retried = app.publish("orders", "retried")
        assert until(lambda: app.status()["probe.orders"].reasons.get("attempt:ValueError"))
        app.publish("orders", "in flight")
        assert failed.wait(TIMEOUT_S)
        for number in range(10):
            app.publish("orders", number)
        go.set()
        assert retried.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
        assert app.flush(TIMEOUT_S)
        assert app.audit()["probe.orders"].dropped >= 8


def test_where_waiting_is_not_allowed_it_raises_and_names_publish_async(gate: threading.Event) -> None:
    """In a running loop, a handler and a callback publish never blocks on a full mailbox."""
    caught = Seen()
    box: list[Rambla] = []

    def attempt(*_: Any) -> None:
        try:
            box[0].publish("full", "more")
        except MailboxFullError as error:
            caught.append(str(error))

    async def main() -> None:
        attempt()
        with pytest.raises(MailboxFullError):
            box[0].publish_many("full", ["more"])

    config = {
        "probe": service(probe(lambda message: gate.wait(TIMEOUT_S)), full={"max_pending": 1}),
        "inside": service(probe(attempt), orders={"options": {"callbacks": {"on_success": attempt}}}),
        "coroutine": service(_async(attempt), looping={}),
    }
    with running(config, gate) as app:
        box.append(app)
        app.publish("full", "in flight")
        assert until(lambda: app.status()["probe.full"].in_flight == 1)
        app.publish("full", "waits")
        asyncio.run(main())
        one(app)
        one(app, channel="looping")
        assert all("publish_async" in text for text in caught.wait(4))
        assert app.audit()["probe.full"].accepted == 2
