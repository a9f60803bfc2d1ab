"""Batches that fill: what wakes a worker meanwhile, and what ends the wait."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from counted_calls import Calls
from outboxes import table_of
from small_apps import TIMEOUT_S, Seen, probe, running, service, table, until

from rambla_py import ConfigError, ConnectionLostError, Handler, PermanentError, Rambla, load_config
from rambla_py.runtime.target.target import Target

LONG_S = 60.0
"""A time for a batch to fill that no passing test reaches."""


def collecting(seen: Seen) -> type[Handler]:
    """Return a handler that remembers the payloads of each batch."""

    def handle_batch(self: Handler, messages: Any, state: Any) -> list[None]:
        seen.append([message.payload for message in messages])
        return [None] * len(messages)

    return probe(handle_batch=handle_batch)


@contextmanager
def gathering(seen: Seen, options: dict[str, Any] | None = None, **channel: Any) -> Iterator[Rambla]:
    """Run an app of one channel with a first message, 0, whose batch a worker lets fill."""
    with running(table(collecting(seen), options, **{"batch_timeout_s": LONG_S, **channel})) as app:
        app.publish("orders", 0)
        assert until(lambda: gathers(app))
        yield app


def target_of(app: Rambla, name: str = "probe.orders") -> Target:
    return next(target for target in app._targets() if target.config.name == name)


def gathers(app: Rambla, name: str = "probe.orders") -> bool:
    """Return whether a worker sleeps until the batch is due, and every worker sleeps."""
    target = target_of(app, name)
    return target.gathering.on and len(target.wakeup.idle) == target.config.count


# -- what wakes a worker --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"priority": "high"}, {"expires_s": 90.0}, {"headers": {"a": "b"}}, {"id": "7"}], ids=str
)
def test_only_the_message_that_makes_the_batch_ready_wakes_a_worker(options: dict[str, Any]) -> None:
    """A web server's events come alone: each of them would cost two thread switches."""
    seen, calls = Seen(), Calls()
    with gathering(seen, batch_ready=20) as app:
        with calls.counting():
            for at in range(1, 19):
                app.publish("orders", at, **options)
        assert calls.found["Gathering.wake"] == 18
        assert calls.found["Wakeup.wake"] == 0
        assert seen == []
        with calls.counting():
            app.publish("orders", 19, **options)
        assert calls.found["Wakeup.wake"] == 1
        seen.wait()
    assert [sorted(batch) for batch in seen] == [list(range(20))]


def test_a_bound_channel_and_a_call_with_many_wake_no_worker_either() -> None:
    """They count what waits as a single publish does."""
    seen, calls = Seen(), Calls()
    with gathering(seen, batch_ready=10) as app:
        bound = app.channel("orders", retries=2)
        with calls.counting():
            bound.publish(1)
            app.publish_many("orders", [2, 3, 4])
            app.publish_many("orders", [5, 6], retries=3)
        assert calls.found["Wakeup.wake"] == 0
        app.publish_many("orders", [7, 8, 9, 10])
        seen.wait()
    assert [len(batch) for batch in seen] == [11]


def test_a_key_wakes_a_worker() -> None:
    """Its messages belong to one worker, which may be another than the one that waits."""
    seen, calls = Seen(), Calls()
    with gathering(seen, count=3) as app:
        with calls.counting():
            app.publish("orders", 1, key="k")
        assert calls.found["Wakeup.wake"] == 1
        assert until(lambda: gathers(app))
        assert seen == []
        assert app.flush(TIMEOUT_S)


def test_each_batch_costs_one_wake_up() -> None:
    """After a batch, the worker sets its timer for the next one: only the message that makes it ready wakes."""
    seen, wakes = Seen(), []
    with running(table(collecting(seen), batch_timeout_s=LONG_S, batch_ready=50)) as app:
        for batch in range(6):
            calls = Calls()
            for at in range(50):
                with calls.counting():
                    app.publish("orders", at)
                assert until(lambda at=at, batch=batch: gathers(app) or (at == 49 and len(seen) > batch))
            seen.wait(batch + 1)
            assert until(lambda: gathers(app))
            wakes.append(calls.found["Wakeup.wake"])
    assert [len(batch) for batch in seen] == [50] * 6
    assert min(wakes[1:]) <= 1  # a worker that looks at the end of a pause may be met awake
    assert sum(wakes[1:]) <= 8


@pytest.mark.parametrize("batch_ready", [10, 100])
def test_batches_that_are_ready_at_short_intervals_are_apart(batch_ready: int) -> None:
    """A server with thousands of events a second has twenty batches a second, not hundreds."""
    seen, began = Seen(), time.monotonic()
    config = table(collecting(seen), batch_timeout_s=LONG_S, batch_ready=batch_ready, batch_size=5_000)
    with running(config) as app:
        for at in range(20 * batch_ready):
            app.publish("orders", at)
        most = 4 + (time.monotonic() - began) / target_of(app).gathering.pause_s
        assert until(lambda: len(target_of(app).mailbox) < batch_ready)
        assert len(seen) <= most + 1
        assert app.flush(TIMEOUT_S)
    assert sum(map(len, seen)) == 20 * batch_ready


def test_a_pause_ends_with_the_time_of_the_oldest_or_a_whole_batch(gate: threading.Event) -> None:
    """It delays no message beyond ``batch_timeout_s``, and a release none at all."""
    config = table(
        probe(lambda message: gate.wait(TIMEOUT_S)), batch_size=8, batch_ready=2, batch_timeout_s=5
    )
    with running(config, gate) as app:
        app.publish_many("orders", range(2))
        target = target_of(app)
        assert until(lambda: target.in_flight() == 1)
        gathering, sent = target.gathering, threading.Event()
        pause_s, wait_s = gathering.pause_s, gathering.pause_s / 2
        app.publish_many("orders", range(2))
        now = time.monotonic()
        assert gathering.left_s(now) is None  # ready, and so soon after the last that the next one waits
        assert gathering.left_s(now + wait_s) == pytest.approx(pause_s - wait_s)
        assert not gathering.changed(gathering.releases)
        assert gathering.left_s(now + pause_s) is None
        assert gathering.left_s(now + 5.1) is None
        assert gathering.left_s(now + 5.1 + wait_s) is None  # the oldest has waited long enough
        app.publish_many("orders", range(8))
        assert gathering.left_s(now + pause_s + wait_s) is None
        receipt = app.publish("orders", 9)
        receipt.add_done_callback(lambda receipt: sent.set())
        gathering.release()
        assert gathering.left_s(time.monotonic()) is None


def test_a_plain_channel_does_not_count_what_waits() -> None:
    """Without ``batch_timeout_s`` a publish wakes a sleeping worker, as ever, by one call less."""
    with running(table(collecting(Seen()))) as app:
        target = target_of(app)
        assert target.admission.wake == target.wakeup.wake
        assert target.receipt_home is target.home


def test_messages_that_gather_expire_in_time() -> None:
    """The timer watches over what no worker was woken for."""
    ended, expiring = Seen(), Seen()
    callbacks = {"on_outcome": lambda outcome: ended.append((outcome.status, outcome.result))}
    with gathering(expiring, {"expires_s": 0.1, "callbacks": callbacks}) as app:
        app.publish("orders", 1)
        ended.wait(2)
        assert until(lambda: target_of(app).mailbox.empty)
        app.publish("orders", 2)
        ended.wait(3)
    assert [status for status, _ in ended] == ["expired"] * 3
    assert expiring == []


def test_a_lost_connection_does_not_stop_the_wait() -> None:
    """The worker reconnects, looks, and lets the batch fill as before."""
    seen, links = Seen(), Seen()

    def connect(self: Handler) -> None:
        links.append(self.link)

    handler = collecting(seen)
    handler.connect = connect  # type: ignore[method-assign]
    with running(table(handler, batch_timeout_s=LONG_S, batch_ready=3)) as app:
        app.publish("orders", 0)
        assert until(lambda: gathers(app))
        links[0].lost(ConnectionLostError("gone"))
        links.wait(2)
        app.publish_many("orders", [1, 2])
        seen.wait()
    assert seen == [[0, 1, 2]]


def test_a_worker_with_other_work_does_not_keep_the_others_asleep(gate: threading.Event) -> None:
    """While a callback runs on the worker that waits for the batch, the next message wakes another one."""
    begun: Seen = Seen()
    called = threading.Event()

    def on_success(outcome: Any) -> None:
        called.set()
        gate.wait(TIMEOUT_S)

    handler = probe(handle_deliveries=lambda self, deliveries, state: begun.extend(deliveries))
    config = table(handler, {"callbacks": {"on_success": on_success}}, batch_timeout_s=LONG_S)
    with running(config, gate) as app:
        receipt = app.publish("orders", 0)
        receipt._when_awaited(lambda: None)
        begun.wait(1)
        app.publish("orders", 1)
        assert until(lambda: gathers(app))
        begun[0].ok()
        assert called.wait(TIMEOUT_S)
        assert not target_of(app).gathering.on
        gate.set()
        receipt = app.publish("orders", 2)
        receipt._when_awaited(lambda: None)
        for delivery in begun.wait(3)[1:]:
            delivery.ok()


@pytest.mark.parametrize("count", [1, 3])
def test_no_batch_that_is_ready_is_left(count: int) -> None:
    """Whatever threads do at the same time, fewer messages than ``batch_ready`` are left waiting."""
    seen, before = Seen(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with running(table(collecting(seen), batch_timeout_s=LONG_S, batch_ready=7, count=count)) as app:
            threads = [threading.Thread(target=publish_some, args=(app, at)) for at in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(TIMEOUT_S)
            assert until(lambda: len(target_of(app).mailbox) < 7)
            assert app.flush(TIMEOUT_S)
    finally:
        sys.setswitchinterval(before)
    assert sum(map(len, seen)) == 4 * 500


def publish_some(app: Rambla, at: int) -> None:
    for number in range(500):
        options = {"key": f"key-{number % 5}"} if number % 50 == at else {}
        app.publish("orders", number, **options)


# -- what ends the wait ---------------------------------------------------------------------------------


WAITS: dict[str, Callable[[Rambla], Any]] = {
    "flush": lambda app: app.flush(TIMEOUT_S),
    "aflush": lambda app: asyncio.run(app.aflush(TIMEOUT_S)),
    "result": lambda app: app.publish("orders", 1).result(TIMEOUT_S),
    "outcomes": lambda app: app.publish("orders", 1, key="k").outcomes(TIMEOUT_S),
    "result of many": lambda app: app.publish_many("orders", [1, 2]).result(TIMEOUT_S),
    "result of a bound channel": lambda app: app.channel("orders", retries=1).publish(1).result(TIMEOUT_S),
    "await": lambda app: asyncio.run(awaited(app)),
    "aoutcomes": lambda app: asyncio.run(app.publish("orders", 1).aoutcomes(TIMEOUT_S)),
    "stop": lambda app: app.stop(TIMEOUT_S),
}


async def awaited(app: Rambla) -> None:
    await (await app.publish_async("orders", 1))


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_for_messages_ends_the_wait_for_a_batch(name: str) -> None:
    """What is waited for is sent at once, with all that waits."""
    seen = Seen()
    with gathering(seen) as app:
        WAITS[name](app)
        assert [payload for batch in seen for payload in batch].count(0) == 1


def test_what_is_published_later_gathers_again() -> None:
    """A release concerns what was accepted by then."""
    seen = Seen()
    with gathering(seen) as app:
        assert app.flush(TIMEOUT_S)
        app.publish("orders", 1)
        assert until(lambda: gathers(app))
        assert seen == [[0]]
    assert seen == [[0], [1]]


def test_a_flush_releases_the_keys_of_all_workers() -> None:
    """Each worker takes its own keys; all of them are woken."""
    seen = Seen()
    with gathering(seen, count=4) as app:
        for at in range(12):
            app.publish("orders", at, key=f"key-{at}")
        assert until(lambda: gathers(app))
        assert seen == []
        assert app.flush(TIMEOUT_S)
    assert sum(map(len, seen)) == 13


def test_a_receipt_releases_its_own_targets_only() -> None:
    """Waiting for an order does not send the events of another channel one by one."""
    orders, events = Seen(), Seen()
    channel = {"batch_timeout_s": LONG_S}
    config = {
        "a": service(collecting(orders), orders=channel),
        "b": service(collecting(events), orders=channel),
    }
    config["c"] = service(collecting(events), events=channel)
    with running(config) as app:
        app.publish("events", 0)
        assert until(lambda: gathers(app, "c.events"))
        app.publish("orders", 1).result(TIMEOUT_S)
        app.publish("orders", 2, key="k").result(TIMEOUT_S)
        assert orders == [[1], [2]]
        assert events == [[1], [2]]
        app.publish("b.orders", 3).result(TIMEOUT_S)
        assert target_of(app, "c.events").gathering.on
    assert orders == [[1], [2]]
    assert events == [[1], [2], [3], [0]]


@pytest.mark.parametrize("wait", ["result", "flush"])
@pytest.mark.parametrize("handed_over", [False, True], ids=["first", "handed over first"])
def test_a_wait_releases_the_batch_of_a_fallback(wait: str, handed_over: bool, gate: threading.Event) -> None:
    """Whether the message is handed over before or after the wait begins."""
    seen = Seen()

    def refuse(message: Any) -> None:
        gate.wait(TIMEOUT_S)
        raise PermanentError("no")

    config = {
        "main": service(probe(refuse), orders={"fallback": "kept"}),
        "spare": service(collecting(seen), kept={"batch_timeout_s": LONG_S}),
    }
    with running(config, gate) as app:
        receipt = app.publish("orders", 1)
        if handed_over:
            gate.set()
            assert until(lambda: gathers(app, "spare.kept"))
        else:
            primary = target_of(app, "main.orders")
            awaited = lambda: primary.counters.flushing or receipt._awaited  # noqa: E731
            threading.Thread(target=lambda: until(awaited) and gate.set(), daemon=True).start()
        assert receipt.result(TIMEOUT_S) is None if wait == "result" else app.flush(TIMEOUT_S)
    assert seen == [[1]]


# -- batch_ready ----------------------------------------------------------------------------------------


def test_batch_ready_is_no_bound_of_a_batch(gate: threading.Event) -> None:
    """As many waiting are sent at once; what waits by then goes with them, up to ``batch_size``."""
    seen = Seen()

    def handle_batch(self: Handler, messages: Any, state: Any) -> list[None]:
        seen.append([message.payload for message in messages])
        gate.wait(TIMEOUT_S)
        return [None] * len(messages)

    handler = probe(handle_batch=handle_batch)
    config = table(handler, batch_size=8, batch_ready=3, batch_timeout_s=LONG_S)
    with running(config, gate) as app:
        app.publish_many("orders", range(3))
        seen.wait()
        app.publish_many("orders", range(20))
        gate.set()
        seen.wait(4)
    assert [len(batch) for batch in seen] == [3, 8, 8, 4]


def test_a_full_mailbox_is_a_ready_batch() -> None:
    """A publisher that waits for room does not wait for a batch that cannot fill."""
    seen = Seen()
    with gathering(seen, max_pending=3) as app:
        for at in range(1, 4):
            app.publish("orders", at)
        seen.wait()
    assert [payload for batch in seen for payload in batch] == [0, 1, 2, 3]


def test_batch_ready_is_at_most_batch_size() -> None:
    """A larger one is refused with both numbers; the default is ``batch_size``."""
    with pytest.raises(ConfigError) as caught:
        load_config(table(collecting(Seen()), batch_size=5, batch_ready=6))
    for words in ("probe.channels.orders.batch_ready", "at most batch_size (5)", "got 6"):
        assert words in str(caught.value)
    with pytest.raises(ConfigError, match=r"at most batch_size \(500\)"):
        load_config(table(collecting(Seen()), batch_ready=501))
    assert load_config(table(collecting(Seen()), batch_size=5, batch_ready=5))


# -- durable channels -----------------------------------------------------------------------------------


def test_a_durable_channel_gathers(tmp_path: Path) -> None:
    """Stored messages wake no worker either, and a wait for one releases them."""
    seen, calls = Seen(), Calls()
    config = table_of(tmp_path, collecting(seen), batch_timeout_s=LONG_S, batch_ready=10)
    with running(config) as app:
        app.publish("orders", 0)
        assert until(lambda: gathers(app))
        with calls.counting():
            receipts = [app.publish("orders", at) for at in range(1, 9)]
        assert calls.found["Wakeup.wake"] == 0
        assert seen == []
        app.publish("orders", 9)
        assert [receipt.result(TIMEOUT_S) for receipt in receipts] == [None] * 8
        app.publish("orders", 10).result(TIMEOUT_S)
        app.publish("orders", 11)
        assert app.flush(TIMEOUT_S)
    assert seen == [list(range(10)), [10], [11]]


def test_messages_that_come_from_the_outbox_do_not_gather_again(tmp_path: Path) -> None:
    """They were accepted before those that wait: a flush and their receipts have released them."""
    seen = Seen()
    config = table_of(tmp_path, collecting(seen), batch_timeout_s=LONG_S, batch_ready=4, max_pending=5)
    with running(config) as app:
        receipts = [app.publish("orders", at) for at in range(23)]
        assert receipts[-1].result(TIMEOUT_S) is None
        assert app.flush(TIMEOUT_S)
    assert sorted(payload for batch in seen for payload in batch) == list(range(23))
