"""What becomes of messages at a stop and at the interpreter's exit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from delivery_cases import cause_of, stuck
from small_apps import AT_ONCE, TIMEOUT_S, Seen, flaky, probe, running, service, table, until

from rambla_py import (
    Handler,
    NotRunningError,
    PermanentError,
    Rambla,
    Receipt,
    Retry,
)

_WAYS: dict[str, Callable[[Rambla], Receipt]] = {
    "one": lambda app: app.publish("orders", 1),
    "many": lambda app: app.publish_many("orders", range(500)),
    "many keyed": lambda app: app.publish_many("orders", range(50), key="k"),
    "many to two": lambda app: app.publish_many(["orders", "copies"], range(50)),
}


def _publish_on(publish: Callable[[], Receipt], receipts: Seen, errors: Seen) -> None:
    try:
        while True:
            receipts.append(publish())
    except BaseException as error:
        errors.append(error)


_PROGRAM = """
import sys, threading
from rambla_py import Handler, Rambla

class Slow(Handler):
    def handle_publish(self, message, options, state):
        if message.payload == "hang":
            threading.Event().wait()
        threading.Event().wait(0.02)
        print(message.payload, flush=True)

def done(outcome):
    print(outcome.status, outcome.payload, flush=True)

app = Rambla({
    "rambla": {"exit_timeout_s": EXIT_S},
    "slow": {"handler": Slow, "connections": {"here": {}},
             "channels": {"orders": {"options": {"callbacks": {"on_outcome": done}}}}},
}).start()
for payload in PAYLOADS:
    app.publish("orders", payload)
"""


def run_program(payloads: list[Any], exit_s: float) -> tuple[list[str], float, str]:
    """Run a program that publishes and ends without stop; return its lines, how long it took, and its errors."""
    program = _PROGRAM.replace("EXIT_S", repr(exit_s)).replace("PAYLOADS", repr(payloads))
    began = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    return ended.stdout.splitlines(), time.monotonic() - began, ended.stderr


def test_stop_delivers_what_waits() -> None:
    """Mailboxes, back-offs and delays that are due in time are worked off; nothing new is taken."""
    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.1)}
    with running(table(probe(flaky(1)), {"callbacks": callbacks})) as app:
        receipts = [app.publish("orders", n) for n in range(100)] + [
            app.publish("orders", "later", delay_s=0.1)
        ]
        audit = app.stop(timeout_s=10.0)
        assert audit is not None
        assert (audit["probe.orders"].ok, audit["probe.orders"].pending) == (101, 0)
        assert all(receipt.done() for receipt in receipts)


def test_stop_drops_at_once_what_is_due_later() -> None:
    """A retry or a delay beyond the time given ends as ``dropped``, its last error kept; stop does not wait."""
    callbacks = {"on_failure": lambda outcome: Retry(delay_s=50.0)}
    with running(table(probe(flaky(1)), {"callbacks": callbacks})) as app:
        retried, delayed = app.publish("orders", 1), app.publish("orders", 2, delay_s=100)
        assert until(lambda: app.status()["probe.orders"].queued == 2)
        began = time.monotonic()
        app.stop(timeout_s=5.0)
        assert time.monotonic() - began < 2.0
        outcomes = [receipt.outcomes(timeout_s=1.0)[0] for receipt in (retried, delayed)]
    assert [outcome.status for outcome in outcomes] == ["dropped", "dropped"]
    assert isinstance(cause_of(outcomes[0]), ValueError)


def test_stop_ends_what_is_left_and_comes_back(gate: threading.Event) -> None:
    """After its time: what waits ends as dropped, what is in flight as unknown; it does not hang."""
    with running(table(probe(lambda message: gate.wait(60.0))), gate) as app:
        stuck(app, "in flight")
        waiting = app.publish("orders", "waits")
        keyed = app.publish_many("orders", [1, 2, 3], key="k")
        began = time.monotonic()
        audit = app.stop(timeout_s=0.2)
        assert time.monotonic() - began < 4.0
        assert audit is not None
        assert (audit["probe.orders"].unknown, audit["probe.orders"].dropped) == (1, 4)
        assert waiting.outcomes(timeout_s=1.0)[0].status == "dropped"
        assert {outcome.status for outcome in keyed.outcomes(timeout_s=1.0)} == {"dropped"}


def test_an_unprocessed_answer_is_reported_as_it_was_at_the_stop(gate: threading.Event) -> None:
    """Answers that came while the worker hung in a callback: ok stays ok with its result, failed is not ok."""
    taken = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    callbacks = {"on_failure": lambda outcome: gate.wait(TIMEOUT_S)}
    names = ["hangs", "good", "failed", "raised", "unknown"]
    with running(
        table(probe(handle_deliveries=handle_deliveries), {"retries": 0, "callbacks": callbacks}), gate
    ) as app:
        receipts = {name: app.publish("orders", name) for name in names}
        deliveries = {delivery.payload: delivery for delivery in taken.wait(5)}
        deliveries["hangs"].failed("no")
        assert until(lambda: app._targets()[0].wakeup.workers.pending_callbacks() == 1)
        deliveries["good"].ok("result")
        deliveries["failed"].failed("quota")
        deliveries["raised"].failed(PermanentError("no"))
        deliveries["unknown"].unknown("gone")
        app.stop(timeout_s=0.1)
        outcomes = {name: receipt.outcomes(timeout_s=1.0)[0] for name, receipt in receipts.items()}
    assert outcomes["hangs"].status in ("dropped", "fatal", "failed")
    assert (outcomes["good"].status, outcomes["good"].result) == ("ok", "result")
    assert outcomes["failed"].status in ("dropped", "fatal", "failed")
    assert outcomes["raised"].status in ("dropped", "fatal", "failed")
    assert outcomes["unknown"].status == "unknown"


def test_a_thousand_keyed_answers_at_the_stop(gate: threading.Event) -> None:
    """Many keys whose answers were not judged when the time ran out: all of them end, and stop comes back."""
    taken = Seen()

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    callbacks = {"on_failure": lambda outcome: gate.wait(TIMEOUT_S)}
    with running(table(probe(handle_deliveries=handle_deliveries), {"callbacks": callbacks}), gate) as app:
        receipts = [app.publish("orders", n, key=str(n)) for n in range(1_000)]
        deliveries = list(taken.wait(1_000))
        deliveries[0].failed("no")
        assert until(lambda: app._targets()[0].wakeup.workers.pending_callbacks() == 1)
        for delivery in deliveries[1:]:
            delivery.ok()
        app.stop(timeout_s=0.1)
        assert all(receipt.outcomes(timeout_s=1.0) for receipt in receipts)


@pytest.mark.parametrize("way", _WAYS)
def test_publishing_while_it_stops_is_refused_or_has_an_outcome(way: str) -> None:
    """From many threads: each call raises NotRunningError before it accepts anything, or all of it ends."""
    publish, handler = _WAYS[way], probe(lambda message: None)
    many, copies = way != "one", way == "many to two"
    for _ in range(5 if many else 1):
        with running({"probe": service(handler, orders={"max_pending": 2_000}, copies={})}) as app:
            receipts, errors = Seen(), Seen()

            for _ in range(4):
                publisher = partial(_publish_on, partial(publish, app), receipts, errors)
                threading.Thread(target=publisher, daemon=True).start()
            receipts.wait(5)
            app.stop(timeout_s=5.0)
            assert {type(error) for error in errors.wait(4)} == {NotRunningError}
            outcomes = [receipt.outcomes(timeout_s=1.0) for receipt in receipts]
            assert {outcome.status for found in outcomes for outcome in found} <= {"ok", "dropped"}
            accepted = {name: audit.accepted for name, audit in app.audit().items()}
            number = sum(map(len, outcomes)) // (1 + copies)
            assert accepted == {"probe.orders": number, "probe.copies": number if copies else 0}


def test_a_publisher_that_waits_for_room_does_not_wait_longer_than_the_stop() -> None:
    """No worker takes messages any more: the rest of the call is dropped, long before ``publish_timeout_s``."""

    def connect(self: Handler) -> None:
        raise OSError("nobody listens")

    with running(table(probe(lambda message: None, connect=connect), max_pending=1)) as app:
        app.publish("orders", "fills it")
        receipts = Seen()
        threads = [
            threading.Thread(target=lambda: receipts.append(app.publish("orders", "waits")), daemon=True)
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        assert until(lambda: len(app._targets()[0].backpressure.waiters) == 3)
        app.stop(timeout_s=0.0)
        outcomes = [receipt.outcomes(timeout_s=1.0)[0] for receipt in receipts.wait(3)]
    assert {outcome.status for outcome in outcomes} == {"dropped"}


def test_a_task_that_waits_for_room_is_refused_by_the_stop() -> None:
    """``publish_async`` has handed in nothing yet: it raises NotRunningError at once."""

    def connect(self: Handler) -> None:
        raise OSError("nobody listens")

    async def main(app: Rambla) -> None:
        waiting = asyncio.create_task(app.publish_async("orders", "waits"))
        while not app._targets()[0].backpressure.waiters:
            await asyncio.sleep(0)
        await asyncio.to_thread(app.stop, 0.0)
        with pytest.raises(NotRunningError):
            await asyncio.wait_for(waiting, TIMEOUT_S)

    with running(table(probe(lambda message: None, connect=connect), max_pending=1)) as app:
        app.publish("orders", "fills it")
        asyncio.run(main(app))


def test_an_exit_without_stop_delivers_what_waits() -> None:
    """The interpreter's end works off the mailbox within ``exit_timeout_s``, callbacks included."""
    lines, _, errors = run_program(list(range(10)), 5.0)
    assert [line for line in lines if line.isdigit()] == [str(n) for n in range(10)]
    assert sorted(line for line in lines if line.startswith("ok")) == sorted(f"ok {n}" for n in range(10))
    assert "Traceback" not in errors


def test_an_exit_with_a_stuck_handler_is_bounded_and_tells() -> None:
    """A handler that hangs does not block the exit; log and on_outcome report what was not delivered."""
    lines, took_s, errors = run_program(["hang", 1, 2], 0.3)
    assert took_s < 10
    assert "3" in errors
    assert "Traceback" not in errors
    assert sorted(lines) == ["dropped 1", "dropped 2", "unknown hang"]


def test_the_rules_hold_for_defaults() -> None:
    """The figures of the table: retries, back-off, pending, time-outs."""
    config = Rambla({"probe": {"handler": probe(lambda message: None), "channels": {"orders": {}}}}).config
    channel = config.services["probe"].channels["orders"]
    assert (channel.policy.retries, channel.policy.expires_s) == (5, None)
    backoff = channel.policy.backoff
    assert (backoff.initial_s, backoff.multiplier, backoff.max_s) == (0.5, 2.0, 60.0)
    assert (channel.max_pending, channel.overflow, channel.publish_timeout_s) == (10_000, "block", 5.0)
    assert (channel.attempt_timeout_s, channel.on_unknown, channel.max_rounds) == (30.0, "retry", 1)
    assert (channel.count, channel.lazy, channel.batch_size, channel.max_in_flight) == (1, True, 500, 2_000)
    assert (channel.max_restarts, channel.max_seconds, channel.batch_timeout_s) == (10, 60.0, 0.0)
    assert channel.slow_restart_s == 30.0
    assert (channel.max_reconnect_s, channel.max_unavailable_s) == (3.0, 3_600.0)
    assert config.rambla.exit_timeout_s == 5.0
    assert AT_ONCE["initial_s"] == 0.0
