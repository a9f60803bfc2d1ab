"""Rate limits, batches, and unknown outcomes."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, table, until

from rambla_py import (
    Handler,
    PublishError,
    UnknownOutcomeError,
)


class Batches:
    """A handler of batches that remembers them; the first waits until the mailbox has filled."""

    def __init__(self, gate: threading.Event) -> None:
        self.seen, self.gate = Seen(), gate

    def handler(self) -> type[Handler]:
        def handle_batch(handler: Handler, messages: Any, state: Any) -> list[Any]:
            self.seen.append([message.payload for message in messages])
            self.gate.wait(TIMEOUT_S)
            return [None] * len(messages)

        return probe(handle_batch=handle_batch)


def test_rate_limit_bounds_attempts_after_a_burst_of_one_second() -> None:
    """20/s: twenty at once, the next five need a quarter of a second; over all workers."""
    times = Seen()
    with running(
        table(probe(lambda message: times.append(time.monotonic())), rate_limit="20/s", count=2)
    ) as app:
        app.publish_many("orders", range(25)).result(timeout_s=TIMEOUT_S)
    assert times[19] - times[0] < 0.2
    assert 0.2 <= times[24] - times[0] < 1.5


def test_retries_count_against_the_rate_too() -> None:
    """The limit is on attempts, not on messages."""
    times = Seen()

    def handle(message: Any) -> None:
        times.append(time.monotonic())
        flaky(2)(message)

    with running(table(probe(handle), rate_limit="10/s")) as app:
        app.publish_many("orders", range(4)).result(timeout_s=TIMEOUT_S)
    assert len(times) == 12
    assert times[11] - times[0] >= 0.15


def test_batch_size_is_the_most_of_a_batch(gate: threading.Event) -> None:
    """What waits goes in batches of that size, in order."""
    batches = Batches(gate)
    with running(table(batches.handler(), batch_size=4), gate) as app:
        app.publish("orders", "first")
        batches.seen.wait(1)
        receipt = app.publish_many("orders", range(10))
        gate.set()
        receipt.result(timeout_s=TIMEOUT_S)
    assert batches.seen == [["first"], [0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_batch_bytes_is_the_most_of_a_batch(gate: threading.Event) -> None:
    """A batch stays within it, but one message goes in any case; nothing is lost or reordered by the cut."""
    batches = Batches(gate)
    with running(table(batches.handler(), batch_bytes=10), gate) as app:
        app.publish("orders", "first")
        batches.seen.wait(1)
        receipt = app.publish_many("orders", ["aaaa", "bbbb", "cccc", "d" * 50, "ee", "ff"])
        gate.set()
        receipt.result(timeout_s=TIMEOUT_S)
    assert batches.seen == [["first"], ["aaaa", "bbbb"], ["cccc"], ["d" * 50], ["ee", "ff"]]


def test_batch_timeout_s_waits_for_a_batch_to_fill() -> None:
    """A full batch goes at once; one that is not full goes when the oldest has waited that long."""
    gate = threading.Event()
    gate.set()
    batches = Batches(gate)
    with running(table(batches.handler(), batch_size=3, batch_timeout_s=0.2)) as app:
        began = time.monotonic()
        full = app.publish_many("orders", [1, 2, 3])
        full.result(timeout_s=TIMEOUT_S)
        assert time.monotonic() - began < 0.19
        began = time.monotonic()
        app.publish_many("orders", [4, 5])
        batches.seen.wait(2)
        assert 0.18 <= time.monotonic() - began < 1.5
    assert batches.seen == [[1, 2, 3], [4, 5]]


def test_stop_does_not_wait_for_a_batch_to_fill() -> None:
    """What waits for company is delivered when the app stops."""
    gate = threading.Event()
    gate.set()
    batches = Batches(gate)
    with running(table(batches.handler(), batch_size=100, batch_timeout_s=60.0)) as app:
        receipt = app.publish("orders", 1)
        assert until(lambda: app.status()["probe.orders"].state == "up")
        began = time.monotonic()
        app.stop(timeout_s=5.0)
        assert time.monotonic() - began < 2.0
        assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"


def test_an_unknown_outcome_is_retried_with_the_same_id() -> None:
    """``on_unknown = "retry"``, the default: at least once; the loss costs no retry, and counts as an attempt."""
    ids = Seen()

    def handle(message: Any) -> str:
        ids.append(message.id)
        if len(ids) == 1:
            raise UnknownOutcomeError("gone after the write")
        return "done"

    with running(table(probe(handle), {"retries": 0})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("ok", 2)
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_an_unknown_outcome_is_reported_where_that_is_asked() -> None:
    """``on_unknown = "report"``: at most once; the outcome is ``unknown``, and result() raises."""
    handled = Seen()

    def handle(message: Any) -> None:
        handled.append(message.payload)
        raise UnknownOutcomeError("gone after the write")

    with running(table(probe(handle), on_unknown="report")) as app:
        receipt = app.publish("orders", 1)
        with pytest.raises(PublishError, match="unknown"):
            receipt.result(timeout_s=TIMEOUT_S)
        outcome = receipt.outcomes()[0]
    assert (outcome.status, len(handled)) == ("unknown", 1)
    assert isinstance(outcome.error, UnknownOutcomeError)
