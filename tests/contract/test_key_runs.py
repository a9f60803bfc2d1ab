"""Several messages of a key in one batch, for handlers that stop at the first failure."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from delivery_cases import stuck
from small_apps import TIMEOUT_S, Seen, running, service, table

from rambla_py import (
    ConnectionLostError,
    Failed,
    Handler,
    Ok,
    PermanentError,
    Rambla,
    Receipt,
    Retry,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.runtime.calls import accept, plan
from rambla_py.runtime.delivery.key_runs import hold_back
from rambla_py.runtime.system import System
from rambla_py.runtime.target.in_flight import InFlight
from rambla_py.runtime.target.shutdown import shut
from rambla_py.runtime.target.target import Target
from rambla_py.telemetry.observers import Observers


def stops(handle: Callable[[Any], Any], batches: list[Any] | None = None) -> type[Handler]:
    """Return an ordered handler: ``handle(message)`` one after the other, up to the first that raises."""

    class Stops(Handler):
        ordered = True

        def handle_batch(self, messages: Sequence[Any], state: Any) -> list[Any]:
            if batches is not None:
                batches.append([message.payload for message in messages])
            answers: list[Any] = []
            for message in messages:
                try:
                    answers.append(handle(message))
                except Exception as error:
                    answers += [error, *[Failed("not applied")] * (len(messages) - len(answers) - 1)]
                    break
            return answers

    return Stops


def ends(receipts: Sequence[Receipt]) -> list[tuple[str, int]]:
    """Return status and attempts of each."""
    outcomes = [receipt.outcomes(timeout_s=20.0)[0] for receipt in receipts]
    return [(outcome.status, outcome.attempts) for outcome in outcomes]


def test_messages_of_a_key_share_a_batch(gate: threading.Event) -> None:
    """Results come one for each, ``Ok`` included, and in order."""
    batches = Seen()

    def handle(message: Any) -> Any:
        gate.wait(TIMEOUT_S)
        return Ok(message.payload) if message.payload % 2 else message.payload

    with running(table(stops(handle, batches)), gate) as app:
        first = app.publish("orders", 0)
        batches.wait()
        receipts = [app.publish("orders", at, key="k") for at in range(1, 9)]
        gate.set()
        assert [receipt.result(timeout_s=TIMEOUT_S) for receipt in (first, *receipts)] == list(range(9))
    assert batches == [[0], list(range(1, 9))]


@pytest.mark.parametrize("end", ["retried", "fatal", "unavailable", "lost"])
def test_a_failure_holds_back_those_behind_it(end: str, gate: threading.Event) -> None:
    """They wait until it has ended, without an attempt; those before it are done, other keys too."""
    batches, applied = Seen(), Seen()
    error = {
        "retried": ValueError("no"),
        "fatal": PermanentError("no"),
        "unavailable": UnavailableError("503", scope="https://a"),
        "lost": ConnectionLostError("gone"),
    }[end]

    def handle(message: Any) -> None:
        gate.wait(TIMEOUT_S)
        if message.payload == "a2" and (end == "fatal" or batches[-1] == ["b1", "a1", "a2", "a3", "a4"]):
            raise error
        applied.append(message.payload)

    with running(table(stops(handle, batches)), gate) as app:
        app.publish("orders", "gate")
        batches.wait()
        receipts = [app.publish("orders", name, key=name[0]) for name in ("b1", "a1", "a2", "a3", "a4")]
        gate.set()
        tries = 1 if end in ("fatal", "lost") else 2  # a lost connection costs no attempt
        expected = ("fatal" if end == "fatal" else "ok", tries)
        assert ends(receipts) == [("ok", 1), ("ok", 1), expected, ("ok", 1), ("ok", 1)]
    assert batches[1:] == [
        ["b1", "a1", "a2", "a3", "a4"],
        *([] if end == "fatal" else [["a2"]]),
        ["a3"],
        ["a4"],
    ]
    assert applied == ["gate", "b1", "a1", *([] if end == "fatal" else ["a2"]), "a3", "a4"]


@pytest.mark.parametrize("on_unknown", ["retry", "report"])
def test_a_run_whose_outcome_is_unknown(on_unknown: str, gate: threading.Event) -> None:
    """It is sent again one by one, in order; or all of it ends as ``unknown``, and the next goes on."""
    batches = Seen()

    class Breaks(Handler):
        ordered = True

        def handle_batch(self, messages: Sequence[Any], state: Any) -> list[Any]:
            batches.append([message.payload for message in messages])
            gate.wait(TIMEOUT_S)
            if len(batches) == 2:
                raise UnknownOutcomeError("gone")
            return [None] * len(messages)

    with running(table(Breaks, on_unknown=on_unknown), gate) as app:
        app.publish("orders", "gate")
        batches.wait()
        receipts = [app.publish("orders", at, key="k") for at in range(3)]
        gate.set()
        expected = ("ok", 2) if on_unknown == "retry" else ("unknown", 1)
        assert ends(receipts) == [expected] * 3
        assert ends([app.publish("orders", 3, key="k")]) == [("ok", 1)]
    tries = [[0], [1], [2]] if on_unknown == "retry" else []
    assert batches == [["gate"], [0, 1, 2], *tries, [3]]


def test_one_that_expired_at_the_head_leaves_the_lane_to_its_run(gate: threading.Event) -> None:
    """The next of its batch holds the lane, so that those behind the batch wait for a retry of it."""
    batches = Seen()

    def handle(message: Any) -> None:
        if message.payload == "gate":
            gate.wait(TIMEOUT_S)
        if message.payload == 1 and message.attempts == 1:
            raise ValueError("no")

    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.05)}
    channel = {"options": {"callbacks": callbacks}, "batch_size": 3}
    with running(table(stops(handle, batches), **channel), gate) as app:
        stuck(app, "gate")
        target = app._lifecycle.targets()[0]
        receipts = [app.publish("orders", 0, key="k", expires_s=30.0)]
        receipts += [app.publish("orders", at, key="k") for at in range(1, 6)]
        batch = target.take(0, 3, time.monotonic() + 60.0, alone_ok=True)
        assert [one.payload for one in batch] == [1, 2]
        assert [one.holds_lane for one in batch] == [True, False]
        target.put_back(batch)
        gate.set()
        assert ends(receipts) == [("expired", 0), ("ok", 2), *[("ok", 1)] * 4]
    assert batches[1:] == [[1, 2, 3], [1], [2], [3], [4, 5]]


def test_a_stuck_run_is_given_up_in_order(gate: threading.Event) -> None:
    """The next worker sends it again, one after the other."""
    batches = Seen()

    def handle(message: Any) -> None:
        if len(batches) == 2:
            gate.wait(TIMEOUT_S)

    first = threading.Event()

    def begin(message: Any) -> None:
        if message.payload == "gate":
            first.wait(TIMEOUT_S)
        handle(message)

    with running(table(stops(begin, batches), attempt_timeout_s=0.3), gate, first) as app:
        app.publish("orders", "gate")
        batches.wait()
        receipts = [app.publish("orders", at, key="k") for at in range(3)]
        first.set()
        assert [status for status, _ in ends(receipts)] == ["ok"] * 3
    assert batches[1:] == [[0, 1, 2], [0], [1], [2]]


def waiting(number: int, **channel: Any) -> tuple[Target, list[Receipt]]:
    """Return a target without workers, in which so many messages of one key wait."""
    app = Rambla(table(stops(lambda message: None), **channel))
    system = System(app.config, app.plan, Observers(), str)
    target = system.targets.every()[0]
    target.wakeup.idle.clear()
    calls = [plan(system.home, (target,), (at,), {"key": "k"}, many=False) for at in range(number)]
    for call in calls:
        accept(call)
    return target, [call.receipt for call in calls]


def test_the_last_one_that_ends_as_unknown_holds_the_lane() -> None:
    """Nothing of the key is sent before the whole run has its outcome."""
    target, _ = waiting(4, on_unknown="report")
    batch = target.take(0, 3, 0.0, alone_ok=True)
    answers = [(one, UnknownOutcomeError("gone")) for one in batch]
    assert hold_back(target, batch, answers) == answers
    assert [one.holds_lane for one in batch] == [False, False, True]


def test_what_is_held_back_after_the_stop_is_dropped() -> None:
    """A batch that fails after the end of its target leaves nothing without an outcome."""
    target, receipts = waiting(3)
    batch = target.take(0, 3, 0.0, alone_ok=True)
    InFlight(target.settlements, lambda: None).begin_together(batch, 0.0)
    shut(target)
    kept = hold_back(target, batch, [(one, ValueError("no")) for one in batch])
    assert [one.payload for one, _ in kept] == [0]
    assert ends(receipts[1:]) == [("dropped", 0)] * 2


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [1, 3])
def test_order_survives_whatever_fails(count: int, seed: int) -> None:
    """Retries, losses, expiry, dead ends with a fallback and a stop: by key, what is applied is in order."""
    chance, lock = random.Random(seed), threading.Lock()
    applied: defaultdict[str, list[int]] = defaultdict(list)
    taken_over: defaultdict[str, list[int]] = defaultdict(list)
    flying: set[str] = set()
    together: set[str] = set()
    errors: list[Any] = [
        ValueError("no"),
        PermanentError("no"),
        ConnectionLostError("gone"),
        UnavailableError("503", scope="https://a", retry_after_s=0.001),
    ]

    class Fails(stops(lambda message: attempt(message))):  # type: ignore[misc]
        def handle_batch(self, messages: Sequence[Any], state: Any) -> list[Any]:
            keys = {message.key for message in messages}
            with lock:
                together.update(keys & flying)
                flying.update(keys)
            try:
                return super().handle_batch(messages, state)
            finally:
                with lock:
                    flying.difference_update(keys)

    def attempt(message: Any) -> None:
        with lock:
            if chance.random() < 0.05:
                raise chance.choice(errors)
            applied[message.key].append(message.payload)

    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.001, retries=3)}
    config = {
        "probe": service(
            Fails,
            orders={
                "options": {"callbacks": callbacks},
                "count": count,
                "fallback": "rest",
                "fallback_on": ["fatal", "expired", "dropped"],
            },
        ),
        "other": service(stops(lambda message: taken_over[message.key].append(message.payload)), rest={}),
    }
    with running(config) as app:
        receipts = [
            app.publish("orders", at, key=f"k{at % 7}", expires_s=0.05 if at % 11 == 0 else 100.0)
            for at in range(400)
        ]
        if seed % 2:
            app.stop(timeout_s=5.0)
        statuses = [receipt.outcomes(timeout_s=20.0)[0].status for receipt in receipts]
    assert not together, "a key in two batches at once"
    assert set(statuses) <= {"ok", "fatal", "expired", "dropped"}
    by_key: defaultdict[str, list[int]] = defaultdict(list)
    for at, status in enumerate(statuses):
        if status == "ok":
            by_key[f"k{at % 7}"].append(at)
    assert applied == by_key
    fallen = sum(map(len, taken_over.values()))
    assert fallen == sum(status != "ok" for status in statuses)
