"""What handlers answer, and what callbacks decide."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise
from typing import Any

import pytest
from delivery_cases import cause_of
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, service, table, until

from rambla_py import (
    RETRY,
    STOP,
    Failed,
    NotRunningError,
    Ok,
    PermanentError,
    PublishError,
    Rambla,
    Retry,
    SerializationError,
    UnknownOutcomeError,
)


@pytest.mark.parametrize(
    ("answer", "result"),
    [(None, None), (False, False), (0, 0), ("v", "v"), (Ok(7), 7), (Ok(None), None), (int, int)],
)
def test_what_a_handler_returns_is_success(answer: Any, result: Any) -> None:
    """Any value is a success and the result, None and False too; Ok unwraps."""
    with running(table(probe(lambda message: answer))) as app:
        outcome = one(app)
    assert (outcome.status, outcome.result, outcome.attempts) == ("ok", result, 1)


@pytest.mark.parametrize(
    "error", [ValueError("no"), OSError("no"), SystemExit(3), KeyboardInterrupt(), Failed("no")]
)
def test_what_a_handler_raises_or_fails_with_is_retried(error: Any) -> None:
    """Every exception and Failed is a failed attempt; after ``retries`` more the delivery is fatal."""

    def handle(message: Any) -> Any:
        if isinstance(error, BaseException):
            raise error
        return error

    with running(table(probe(handle), {"retries": 2})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("fatal", 3)
    assert "no" in str(outcome.error) or outcome.error is error


def test_five_retries_are_the_default() -> None:
    """Six attempts, then fatal; one that succeeds on the way is ok."""
    with running(table(probe(lambda message: flaky(message.payload)(message)))) as app:
        assert (one(app, 99).status, one(app, 99).attempts) == ("fatal", 6)
        assert (one(app, 5).status, one(app, 5).attempts) == ("ok", 6)


@pytest.mark.parametrize(
    "answer",
    [PermanentError("no"), Failed("no", retryable=False), Failed(PermanentError("no"))],
)
def test_what_no_retry_can_mend_is_fatal_at_once(answer: Any) -> None:
    """An error or a Failed that is not retryable ends after one attempt."""

    def handle(message: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    with running(table(probe(handle))) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("fatal", 1)


@pytest.mark.parametrize("payload", [object(), {"order": {"lines": [1, object()]}}])
def test_a_payload_that_cannot_be_serialized_is_fatal_at_once(payload: Any) -> None:
    """One attempt, and the error names the path to the value."""
    with running(table(probe(lambda message: message.body()))) as app:
        outcome = one(app, payload)
    assert (outcome.status, outcome.attempts) == ("fatal", 1)
    assert isinstance(outcome.error, SerializationError)
    if isinstance(payload, dict):
        assert "$.order.lines[1]" in str(outcome.error)


def test_back_off_grows_by_the_multiplier_and_is_jittered() -> None:
    """The waits lie within initial_s x multiplier^n and max_s; other messages do not wait for them."""
    times = Seen()

    def handle(message: Any) -> None:
        if message.payload == "bad":
            times.append(time.monotonic())
            raise ValueError("no")

    backoff = {"initial_s": 0.02, "multiplier": 3.0, "max_s": 0.1}
    with running(table(probe(handle), {"backoff": backoff, "retries": 4})) as app:
        receipt = app.publish("orders", "bad")
        assert one(app, "good").status == "ok"
        assert receipt.outcomes(timeout_s=TIMEOUT_S)[0].status == "fatal"
    waits = [after - before for before, after in pairwise(times)]
    assert len(waits) == 4
    for wait, ceiling in zip(waits, [0.02, 0.06, 0.1, 0.1], strict=True):
        assert wait <= ceiling + 0.3


def test_a_retry_that_waits_does_not_hold_up_the_others() -> None:
    """While one delivery waits for its retry, the worker delivers everything else."""
    first = threading.Event()

    def handle(message: Any) -> None:
        if message.payload == "bad" and not first.is_set():
            first.set()
            raise ValueError("no")

    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.3)}
    with running(table(probe(handle), {"callbacks": callbacks})) as app:
        bad = app.publish("orders", "bad")
        assert first.wait(TIMEOUT_S)
        app.publish_many("orders", range(50)).result(timeout_s=TIMEOUT_S)
        assert not bad.done()
        outcome = bad.outcomes(timeout_s=TIMEOUT_S)[0]
    assert outcome.status == "ok"
    assert outcome.queued_s >= 0.3


def test_on_failure_none_leaves_it_to_the_policy() -> None:
    """It is called for each failed attempt, including the last."""
    heard = Seen()
    with running(table(probe(flaky(9)), {"retries": 2, "callbacks": {"on_failure": heard.append}})) as app:
        assert one(app).status == "fatal"
    assert [(outcome.status, outcome.attempts) for outcome in heard] == [
        ("failed", 1),
        ("failed", 2),
        ("failed", 3),
    ]
    assert all(isinstance(outcome.error, ValueError) for outcome in heard)


def test_on_failure_stop_ends_here() -> None:
    """STOP ends the delivery as ``failed`` after this attempt; neither on_fatal nor the fallback runs."""
    fatal = Seen()
    callbacks = {"on_failure": lambda outcome: STOP, "on_fatal": fatal.append}
    config = {
        "probe": service(
            probe(flaky(9)), orders={"options": {"callbacks": callbacks}, "fallback": "other"}, other={}
        )
    }
    with running(config) as app:
        receipt = app.publish("orders", 1)
        outcome = receipt.outcomes(timeout_s=TIMEOUT_S)[0]
        with pytest.raises(PublishError):
            receipt.result()
        assert app.audit()["probe.other"].accepted == 0
    assert (outcome.status, outcome.attempts, outcome.fallback) == ("failed", 1, None)
    assert not fatal


def test_on_failure_retry_retries_what_is_not_retryable() -> None:
    """RETRY retries while any are left, an error that is not retryable included."""
    callbacks = {"on_failure": lambda outcome: RETRY}
    with running(table(probe(flaky(9, PermanentError("no"))), {"retries": 3, "callbacks": callbacks})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("fatal", 4)


def test_on_failure_sets_how_many_are_left_from_now() -> None:
    """Retry(retries=2) after the first failure: two more, whatever the policy said."""
    callbacks = {"on_failure": lambda outcome: Retry(retries=2) if outcome.attempts == 1 else None}
    for retries in (0, 9):
        with running(table(probe(flaky(99)), {"retries": retries, "callbacks": callbacks})) as app:
            outcome = one(app)
        assert (outcome.status, outcome.attempts) == ("fatal", 3)


def test_on_failure_sets_the_wait() -> None:
    """Retry(delay_s=) is the wait before the next attempt, in place of the back-off."""
    times = Seen()

    def handle(message: Any) -> None:
        times.append(time.monotonic())
        flaky(1)(message)

    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.15)}
    with running(table(probe(handle), {"callbacks": callbacks})) as app:
        assert one(app).status == "ok"
    assert 0.14 <= times[1] - times[0] < 2


@pytest.mark.parametrize(
    "nonsense",
    [
        "retry",
        7,
        Retry(delay_s="soon"),  # type: ignore[arg-type]  # as users may write it
        Retry(retries="many"),  # type: ignore[arg-type]  # likewise
        Retry(delay_s=float("nan")),
        Retry(delay_s=-1.0),
        object,
    ],
)
def test_a_callback_that_answers_nonsense_is_taken_as_none(nonsense: Any) -> None:
    """The policy decides; the delivery has its outcome, and the worker lives on."""
    callbacks = {"on_failure": lambda outcome: nonsense, "on_fatal": lambda outcome: nonsense}
    with running(table(probe(flaky(1)), {"retries": 1, "callbacks": callbacks}, max_rounds=0)) as app:
        assert one(app).status in ("ok", "fatal")
        assert app.status()["probe.orders"].workers == ["up"]


def test_on_fatal_may_ask_for_rounds() -> None:
    """RETRY gives one more full round, ``max_rounds`` times; the last time its answer counts for nothing."""
    heard = Seen()

    def on_fatal(outcome: Any) -> Any:
        heard.append((outcome.status, outcome.attempts))
        return RETRY

    for rounds, attempts in ((1, [3, 6]), (2, [3, 6, 9]), (0, [3])):
        heard.clear()
        options = {"retries": 2, "callbacks": {"on_fatal": on_fatal}}
        with running(table(probe(flaky(99)), options, max_rounds=rounds)) as app:
            assert (one(app).status, len(heard)) == ("fatal", len(attempts))
        assert heard == [("fatal", at) for at in attempts]


def test_a_round_that_would_come_too_late_ends_as_expired() -> None:
    """on_fatal asks for a round later than ``expires_s``: the delivery expires in time, with its error as cause."""
    options = {"retries": 0, "expires_s": 0.3, "callbacks": {"on_fatal": lambda outcome: Retry(delay_s=60.0)}}
    with running(table(probe(flaky(9)), options)) as app:
        outcome = one(app)
    assert outcome.status == "expired"
    assert isinstance(cause_of(outcome), ValueError)


def test_on_outcome_hears_of_every_end_once(gate: threading.Event) -> None:
    """ok, failed, fatal, expired, unknown and dropped: each is reported once, with the receipt's outcome."""
    heard = Seen()

    def handle(message: Any) -> None:
        if message.payload == "unknown":
            raise UnknownOutcomeError("gone")
        if message.payload in ("failed", "fatal"):
            raise ValueError(message.payload)
        if message.payload == "stuck":
            gate.wait(TIMEOUT_S)

    callbacks = {
        "on_outcome": heard.append,
        "on_failure": lambda outcome: STOP if str(outcome.error) == "failed" else None,
    }
    options = {"retries": 0, "callbacks": callbacks}
    with running(
        table(probe(handle), options, on_unknown="report", max_pending=2, overflow="drop_newest"), gate
    ) as app:
        receipts = []
        for payload in ("ok", "failed", "fatal", "unknown"):
            receipts.append(app.publish("orders", payload))
            receipts[-1].outcomes(timeout_s=TIMEOUT_S)
        receipts.append(app.publish("orders", "stuck"))
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        receipts.append(app.publish("orders", "expired", expires_s=0.1))
        receipts.append(app.publish("orders", "waits"))
        receipts.append(app.publish("orders", "dropped"))
        assert receipts[-3].outcomes(timeout_s=TIMEOUT_S)[0].status == "expired"
        gate.set()
        heard.wait(8)
        ended = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts]
    assert {outcome.payload: outcome.status for outcome in ended} == {
        name: name for name in ("ok", "failed", "fatal", "unknown", "expired", "dropped")
    } | {"stuck": "ok", "waits": "ok"}
    assert sorted((o.message_id, o.status) for o in heard) == sorted((o.message_id, o.status) for o in ended)


def test_callbacks_may_be_methods_and_options_replace_them() -> None:
    """The handler's methods are called; an option of the same name is called instead, of a message too."""
    heard = Seen()

    def method(name: str) -> Any:
        return lambda self, outcome: heard.append(name)

    names = ("on_success", "on_failure", "on_fatal", "on_outcome")
    handler = probe(
        lambda message: 1 / 0 if message.payload == "bad" else None,
        **{name: method(f"method {name}") for name in names},
    )
    with running(table(handler, {"retries": 0})) as app:
        one(app, "good")
        one(app, "bad")
        one(app, "good", callbacks={"on_success": lambda outcome: heard.append("option on_success")})
        heard.wait(7)
    expected = ["on_success", "on_outcome", "on_failure", "on_fatal", "on_outcome"]
    assert heard == [f"method {name}" for name in expected] + ["option on_success", "method on_outcome"]


def test_callbacks_that_raise_are_logged_and_counted() -> None:
    """Any exception of a callback, SystemExit too, is treated as None, and the worker continues."""

    def explode(outcome: Any) -> None:
        raise SystemExit("from a callback")

    names = ("on_success", "on_failure", "on_fatal", "on_outcome")
    with running(table(probe(flaky(1)), {"retries": 0, "callbacks": dict.fromkeys(names, explode)})) as app:
        assert one(app).status == "fatal"
        assert one(app, retries=1).status == "ok"
        assert until(lambda: app.status()["probe.orders"].reasons.get("callback:SystemExit") == 6)
        assert app.status()["probe.orders"].workers == ["up"]


def test_async_callbacks_are_awaited() -> None:
    """on_failure may be ``async def``; its verdict counts."""
    heard = Seen()

    async def on_failure(outcome: Any) -> Any:
        await asyncio.sleep(0)
        return STOP

    async def on_outcome(outcome: Any) -> None:
        await asyncio.sleep(0)
        heard.append(outcome.status)

    callbacks = {"on_failure": on_failure, "on_outcome": on_outcome}
    with running(table(probe(flaky(9)), {"callbacks": callbacks})) as app:
        assert one(app).status == "failed"
        assert heard.wait(1) == ["failed"]


def test_callbacks_may_publish() -> None:
    """From on_success, on_fatal and a done callback, to its own channel and to another."""
    delivered = Seen()
    box: list[Rambla] = []

    def on_success(outcome: Any) -> None:
        if outcome.payload < 5:
            box[0].publish("orders", outcome.payload + 1)

    with running(
        table(
            probe(lambda message: delivered.append(message.payload)),
            {"callbacks": {"on_success": on_success}},
        )
    ) as app:
        box.append(app)
        app.publish("orders", 0)
        assert delivered.wait(6) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "name", ["on_success", "on_failure", "on_fatal", "on_outcome", "handler", "done", "async"]
)
def test_stop_from_inside_is_asynchronous(name: str) -> None:
    """From a callback or a handler stop returns the accounts at once; everything accepted still ends, in time."""
    box: list[Rambla] = []
    answers = Seen()

    def stop(*_: Any) -> None:
        if not answers:
            began = time.monotonic()
            answer = box[0].stop(timeout_s=5.0)
            answers.append((list(answer), time.monotonic() - began < 1.0))

    def handle(message: Any) -> None:
        if name == "handler" and message.payload == 0:
            stop()
        if name in ("on_failure", "on_fatal") and message.payload == 0:
            raise PermanentError("no")

    async def stop_async(outcome: Any) -> None:
        stop()

    callbacks = (
        {"on_outcome": stop_async} if name == "async" else {name: stop} if name.startswith("on_") else {}
    )
    with running(table(probe(handle), {"callbacks": callbacks})) as app:
        box.append(app)
        receipts = [app.publish("orders", 0)]
        if name == "done":
            receipts[0].add_done_callback(stop)
        for number in range(1, 20):
            try:
                receipts.append(app.publish("orders", number))
            except NotRunningError:
                break
        assert answers.wait(1) == [(["probe.orders"], True)]
        statuses = [receipt.outcomes(timeout_s=TIMEOUT_S)[0].status for receipt in receipts]
        assert set(statuses[1:]) <= {"ok"}
        assert until(lambda: "stopped" in repr(app))


def test_a_callback_that_blocks_holds_up_its_own_worker_only(gate: threading.Event) -> None:
    """The channel's other workers, and other channels, continue."""

    def on_success(outcome: Any) -> None:
        if outcome.payload == "block":
            gate.wait(TIMEOUT_S)

    config = {
        "probe": service(
            probe(lambda message: None),
            orders={"options": {"callbacks": {"on_success": on_success}}, "count": 2},
            other={},
        )
    }
    with running(config, gate) as app:
        assert one(app, "block").status == "ok"
        assert {one(app, n).status for n in range(20)} == {"ok"}
        assert one(app, channel="other").status == "ok"
