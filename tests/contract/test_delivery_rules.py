"""DESIGN 6: what happens to a message, row by row."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from small_apps import AT_ONCE, TIMEOUT_S, Seen, flaky, one, probe, running, service, table, until

from rambla_py import (
    RETRY,
    STOP,
    ConfigError,
    ConnectionLostError,
    DroppedError,
    ExpiredError,
    Failed,
    Handler,
    MailboxFullError,
    NotRunningError,
    Ok,
    Outcome,
    PermanentError,
    PublishError,
    Rambla,
    Receipt,
    Retry,
    SerializationError,
    UnknownOutcomeError,
)


def cause_of(outcome: Outcome) -> BaseException | None:
    """Return what an outcome's error came from."""
    return None if outcome.error is None else outcome.error.__cause__


def stuck(app: Rambla, *payloads: Any) -> None:
    """Publish, one by one, what a handler holds; return once it is in flight."""
    for number, payload in enumerate(payloads, 1):
        app.publish("orders", payload)
        assert until(partial(_flies, app, number))


def _flies(app: Rambla, number: int) -> bool:
    return app.status()["probe.orders"].in_flight >= number


# -- answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "result"),
    [(None, None), (False, False), (0, 0), ("v", "v"), (Ok(7), 7), (Ok(None), None), (RETRY, RETRY)],
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
    [PermanentError("no"), Failed("no", retryable=False), Failed(PermanentError("no"), retryable=False)],
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


# -- callbacks ----------------------------------------------------------------------------------------


def test_on_failure_none_leaves_it_to_the_policy() -> None:
    """It hears of each failed attempt, the last included."""
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
    """STOP ends the delivery as ``failed`` after this attempt; on_fatal and the fallback do not hear of it."""
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
    """ok, failed, fatal, expired, unknown and dropped: each is told once, with what the receipt has."""
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
    """Whatever a callback raises, SystemExit too: it is as None, and the worker goes on."""

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
    """From a callback or a handler stop returns None at once; everything accepted still ends, in time."""
    box: list[Rambla] = []
    answers = Seen()

    def stop(*_: Any) -> None:
        if not answers:
            began = time.monotonic()
            answer = box[0].stop(timeout_s=5.0)
            answers.append((answer, time.monotonic() - began < 1.0))

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
        assert answers.wait(1) == [(None, True)]
        statuses = [receipt.outcomes(timeout_s=TIMEOUT_S)[0].status for receipt in receipts]
        assert set(statuses[1:]) <= {"ok"}
        assert until(lambda: "stopped" in repr(app))


def test_a_callback_that_blocks_holds_up_its_own_worker_only(gate: threading.Event) -> None:
    """The channel's other workers, and other channels, go on."""

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


# -- a full mailbox -----------------------------------------------------------------------------------


def test_a_full_mailbox_blocks_until_there_is_room(gate: threading.Event) -> None:
    """``block``, the default: publish waits in a plain thread, and goes on when a place is free."""
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
        assert until(lambda: len(app._targets()[0].room.waiters) == 3)
        assert not done
        gate.set()
        assert {receipt.outcomes(timeout_s=TIMEOUT_S)[0].status for receipt in done.wait(3)} == {"ok"}


IDENTITY_USED_AGAIN = """
import threading
from rambla_py.actors.inside import enter_worker, is_inside_worker

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


def test_a_thread_with_the_identity_of_a_dead_worker_may_wait() -> None:
    """Identities are used again: a worker that died without a word must not leave its mark on the next thread.

    In a process of its own: here another thread may have got the identity first, and keep it.
    """
    ended = subprocess.run(
        [sys.executable, "-c", IDENTITY_USED_AGAIN], capture_output=True, text=True, timeout=60, check=True
    )
    assert ended.stdout == "False\n"


def test_block_gives_up_after_publish_timeout_s(gate: threading.Event) -> None:
    """Then MailboxFullError, and nothing is accepted; those who gave up leave nothing behind."""
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
        assert len(app._targets()[0].room.waiters) <= 1


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
def test_drop_drops_the_oldest_or_the_newest(
    overflow: str, left: list[int], options: dict[str, Any], gate: threading.Event
) -> None:
    """What is dropped ends as ``dropped`` with the reason; the rest is delivered, keyed messages too."""
    delivered = Seen()

    def handle(message: Any) -> None:
        gate.wait(TIMEOUT_S)
        delivered.append(message.payload)

    with running(table(probe(handle), max_pending=2, overflow=overflow), gate) as app:
        first = app.publish("orders", "in flight", **options)
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        receipts = [app.publish("orders", number, **options) for number in range(4)]
        gate.set()
        assert first.result(timeout_s=TIMEOUT_S) is None
        outcomes = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts]
        assert app.status()["probe.orders"].reasons.get("mailbox full") == 2
    assert [o.payload for o in outcomes if o.status == "ok"] == left
    assert {o.status for o in outcomes} == {"ok", "dropped"}
    assert delivered == ["in flight", *left]


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


def test_where_nobody_may_wait_it_raises_and_names_publish_async(gate: threading.Event) -> None:
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


def _async(step: Any) -> type[Handler]:
    async def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        step()

    return probe(handle_publish=handle_publish)


# -- order --------------------------------------------------------------------------------------------


class Disorder:
    """A handler's doing: fails often, loses the connection thrice; remembers what succeeded, by key."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.applied: defaultdict[str, list[Any]] = defaultdict(list)
        self.flying: defaultdict[str, int] = defaultdict(int)
        self.most, self.count, self.lock = 0, 0, threading.Lock()

    def __call__(self, message: Any) -> None:
        with self.lock:
            self.count += 1
            number = self.count
            self.flying[message.key] += 1
            self.most = max(self.most, self.flying[message.key])
        try:
            if number % self.every == 0:
                raise ValueError("no")
            if number in (3, 20, 41):
                raise ConnectionLostError("gone")
            with self.lock:
                self.applied[message.key].append(message.payload)
        finally:
            with self.lock:
                self.flying[message.key] -= 1


@pytest.mark.parametrize("count", [1, 3])
def test_the_messages_of_a_key_keep_their_order(count: int) -> None:
    """Through failures, retries with waits and lost connections, over workers: by key, one at a time, in order."""
    doing = Disorder(every=7)
    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.001, retries=50)}
    with running(table(probe(doing), {"callbacks": callbacks}, count=count)) as app:
        receipts = [app.publish("orders", n, key=f"k{n % 5}") for n in range(60)]
        statuses = {receipt.outcomes(timeout_s=20.0)[0].status for receipt in receipts}
    assert statuses == {"ok"}
    assert doing.most == 1
    assert doing.applied == {f"k{k}": list(range(k, 60, 5)) for k in range(5)}


def test_each_key_finds_its_worker_when_all_of_them_sleep() -> None:
    """With several workers, a single message of any key is delivered although nothing else is published."""
    with running(table(probe(lambda message: None), count=4)) as app:
        assert one(app).status == "ok"
        assert until(lambda: app.status()["probe.orders"].workers == ["up"] * 4)
        for number in range(20):
            assert app.publish("orders", 1, key=str(number)).outcomes(timeout_s=3.0)[0].status == "ok"


@pytest.mark.parametrize("end", ["fatal", "expired", "dropped", "failed", "unknown"])
def test_any_end_lets_the_next_of_its_key_go(end: str, gate: threading.Event) -> None:
    """fatal, failed, unknown, expired and dropped release the lane as ok does."""

    def handle(message: Any) -> None:
        if message.payload == "blocker":
            gate.wait(TIMEOUT_S)
        if message.payload == "bad" and end in ("fatal", "failed"):
            raise PermanentError("no")
        if message.payload == "bad" and end == "unknown":
            raise UnknownOutcomeError("gone")

    callbacks = {"on_failure": lambda outcome: STOP if end == "failed" else None}
    overflow = {"overflow": "drop_oldest", "max_pending": 2} if end == "dropped" else {}
    with running(
        table(probe(handle), {"callbacks": callbacks}, on_unknown="report", **overflow), gate
    ) as app:
        if end in ("expired", "dropped"):
            stuck(app, "blocker")
        bad = app.publish("orders", "bad", key="k", **({"expires_s": 0.05} if end == "expired" else {}))
        good = app.publish("orders", "good", key="k")
        if end == "dropped":
            app.publish("orders", "one more")
        if end == "expired":
            assert bad.outcomes(timeout_s=TIMEOUT_S)[0].status == "expired"
        gate.set()
        assert bad.outcomes(timeout_s=TIMEOUT_S)[0].status == end
        assert good.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"


def test_other_keys_flow_past_one_that_waits() -> None:
    """A key whose first message waits for its retry holds up its own messages only, and priority does not help."""
    delivered = Seen()

    def handle(message: Any) -> None:
        if message.payload == "first" and message.attempts == 1:
            raise ValueError("no")
        delivered.append(message.payload)

    callbacks = {"on_failure": lambda outcome: Retry(delay_s=0.2)}
    with running(table(probe(handle), {"callbacks": callbacks})) as app:
        first = app.publish("orders", "first", key="a")
        assert until(lambda: app.status()["probe.orders"].reasons.get("attempt:ValueError"))
        second = app.publish("orders", "second", key="a", priority="high")
        for number in range(5):
            app.publish("orders", number, key=f"b{number}").result(timeout_s=TIMEOUT_S)
        assert not first.done()
        assert not second.done()
        second.result(timeout_s=TIMEOUT_S)
    assert delivered == [0, 1, 2, 3, 4, "first", "second"]


# -- time ---------------------------------------------------------------------------------------------


def test_delay_s_holds_a_message_back() -> None:
    """The first attempt is not earlier, and other messages go first."""
    times = Seen()
    with running(table(probe(lambda message: times.append((message.payload, time.monotonic()))))) as app:
        one(app)
        times.clear()
        began = time.monotonic()
        late = app.publish("orders", "late", delay_s=0.3)
        app.publish("orders", "now").result(timeout_s=TIMEOUT_S)
        assert late.outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
    assert [name for name, _ in times] == ["now", "late"]
    assert times[1][1] - began >= 0.3


def test_what_waits_behind_a_stuck_worker_expires_on_time(gate: threading.Event) -> None:
    """A timer decides, without an attempt: with the channel's ``expires_s`` and with one of its own."""
    handled = Seen()

    def handle(message: Any) -> None:
        handled.append(message.payload)
        gate.wait(TIMEOUT_S)

    with running(table(probe(handle), {"expires_s": 0.2}), gate) as app:
        stuck(app, "stuck")
        receipts = [
            app.publish("orders", "channel's"),
            app.publish("orders", "own", expires_s=0.1),
            app.publish("orders", "keyed", key="k"),
            app.publish("orders", "behind", key="k"),
            app.publish("orders", "high", priority="high"),
        ]
        began = time.monotonic()
        outcomes = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts]
        assert time.monotonic() - began < 2.0
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("expired", 0)}
    # The connection was up all the time, so there is no last error to blame.
    assert {str(outcome.error) for outcome in outcomes} == {
        f"expires_s = {expires_s} was over after 0 attempts" for expires_s in (0.1, 0.2)
    }
    assert {type(outcome.error) for outcome in outcomes} == {ExpiredError}
    assert handled == ["stuck"]


@pytest.mark.parametrize("options", [{}, {"key": "k"}, {"priority": "high"}], ids=["plain", "key", "high"])
def test_a_message_expires_although_one_before_it_lives_longer(
    options: dict[str, Any], gate: threading.Event
) -> None:
    """Each has its own time: one that never expires, or later, does not keep what stands behind it alive."""
    with running(table(probe(lambda message: gate.wait(TIMEOUT_S)), {"expires_s": 0.2}), gate) as app:
        stuck(app, "stuck")
        forever = app.publish("orders", "forever", expires_s=float("inf"), **options)
        longer = app.publish("orders", "longer", expires_s=100, **options)
        short = app.publish("orders", "short", **options)
        assert short.outcomes(timeout_s=3.0)[0].status == "expired"
        assert not forever.done()
        assert not longer.done()


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("connect", ["refuses", "hangs"])
def test_a_message_expires_while_nothing_connects(lazy: bool, connect: str, gate: threading.Event) -> None:
    """A server that cannot be reached, or never answers, does not keep a message alive."""

    def connecting(self: Handler) -> None:
        if connect == "hangs":
            gate.wait(TIMEOUT_S)
        raise ConnectionLostError("nobody there")

    with running(
        table(probe(lambda message: None, connect=connecting), {"expires_s": 0.2}, lazy=lazy),
        gate,
        stop_s=1.0,
    ) as app:
        assert lazy or until(lambda: app.status()["probe.orders"].state == "connecting")
        outcome = app.publish("orders", 1).outcomes(timeout_s=3.0)[0]
    assert (outcome.status, outcome.attempts) == ("expired", 0)


def test_what_was_lost_and_put_back_expires_on_time_too(gate: threading.Event) -> None:
    """Deliveries that came back after a loss expire each at its own time, with the loss as the cause."""
    up = threading.Event()
    up.set()

    def connecting(self: Handler) -> None:
        if not up.is_set():
            raise ConnectionLostError("nobody there")

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            taken.append(delivery)

    taken = Seen()
    with running(table(probe(connect=connecting, handle_deliveries=handle_deliveries)), stop_s=0.3) as app:
        old = app.publish("orders", "old", expires_s=0.3)
        taken.wait(1)
        new = app.publish("orders", "new", expires_s=100)
        taken.wait(2)
        up.clear()
        taken[0].failed(ConnectionLostError("gone"))
        assert until(lambda: app.status()["probe.orders"].queued == 2)
        outcome = old.outcomes(timeout_s=3.0)[0]
        assert not new.done()
    assert outcome.status == "expired"
    assert isinstance(cause_of(outcome), (ConnectionLostError, UnknownOutcomeError))


def test_an_attempt_that_runs_is_not_cut_by_expiry(gate: threading.Event) -> None:
    """After the write the answer counts, however late it comes."""
    with running(
        table(probe(lambda message: gate.wait(TIMEOUT_S) and "late"), {"expires_s": 0.05}), gate
    ) as app:
        receipt = app.publish("orders", 1)
        assert until(lambda: app.status()["probe.orders"].in_flight == 1)
        with pytest.raises(TimeoutError):
            receipt.result(timeout_s=0.3)
        gate.set()
        outcome = receipt.outcomes(timeout_s=TIMEOUT_S)[0]
    assert (outcome.status, outcome.result) == ("ok", "late")


def test_a_retry_that_would_come_too_late_is_expired_at_once() -> None:
    """No waiting for nothing: the last error is the cause."""
    callbacks = {"on_failure": lambda outcome: Retry(delay_s=50.0)}
    with running(table(probe(flaky(9)), {"expires_s": 10.0, "callbacks": callbacks})) as app:
        outcome = app.publish("orders", 1).outcomes(timeout_s=3.0)[0]
    assert (outcome.status, outcome.attempts) == ("expired", 1)
    assert isinstance(outcome.error, ExpiredError)
    assert isinstance(cause_of(outcome), ValueError)


def test_high_priority_goes_first(gate: threading.Event) -> None:
    """Those of priority "high" are attempted before all that waits, in their order."""
    delivered = Seen()

    def handle(message: Any) -> None:
        if message.payload == "stuck":
            gate.wait(TIMEOUT_S)
        delivered.append(message.payload)

    with running(table(probe(handle)), gate) as app:
        stuck(app, "stuck")
        for number in range(3):
            app.publish("orders", number)
        for number in range(2):
            app.publish("orders", f"high {number}", priority="high")
        gate.set()
        delivered.wait(6)
    assert delivered == ["stuck", "high 0", "high 1", 0, 1, 2]


# -- fallback -----------------------------------------------------------------------------------------


def test_a_fatal_delivery_goes_to_the_fallback_and_succeeds_there() -> None:
    """The primary counts fatal, the fallback counts its own; the outcome holds both, and result() succeeds."""
    seen = Seen()

    def keep(message: Any) -> str:
        seen.append((message.payload, message.id, message.key, dict(message.headers)))
        return "kept"

    config = {
        "bad": service(probe(flaky(99)), orders={"options": {"retries": 1}, "fallback": "kept"}),
        "good": service(probe(keep), kept={}),
    }
    with running(config) as app:
        receipt = app.publish("orders", {"n": 1}, id="m-1", key="k", headers={"a": 1})
        assert receipt.result(timeout_s=TIMEOUT_S) == "kept"
        outcome = receipt.outcomes()[0]
        audit = app.audit()
    assert (outcome.status, outcome.attempts, outcome.channel) == ("fatal", 2, "orders")
    assert outcome.fallback is not None
    assert (outcome.fallback.status, outcome.fallback.channel, outcome.fallback.message_id) == (
        "ok",
        "kept",
        "m-1",
    )
    assert outcome.succeeded
    assert seen == [({"n": 1}, "m-1", "k", {"a": 1})]
    assert (audit["bad.orders"].fatal, audit["good.kept"].ok) == (1, 1)
    assert receipt.level == "confirmed"


def test_a_chain_of_fallbacks_ends_with_the_first_that_succeeds_or_with_an_error() -> None:
    """Each link is tried in turn; where the last fails, so does the receipt, and the outcomes form a chain."""
    bad = {"options": {"retries": 0}}
    config = {
        "probe": service(
            probe(lambda message: message.payload if message.target.channel == message.payload else 1 / 0),
            a={**bad, "fallback": "b"},
            b={**bad, "fallback": "c"},
            c=bad,
        )
    }
    with running(config) as app:
        assert app.publish("a", "c").result(timeout_s=TIMEOUT_S) == "c"
        receipt = app.publish("a", "nowhere")
        with pytest.raises(PublishError):
            receipt.result(timeout_s=TIMEOUT_S)
        outcome = receipt.outcomes()[0]
        assert [audit.fatal for audit in app.audit().values()] == [2, 2, 1]
    assert outcome.final.channel == "c"
    assert outcome.fallback is not None
    assert outcome.fallback.channel == "b"
    assert outcome.final.status == "fatal"
    assert not outcome.succeeded


def test_a_fallback_that_fans_out_succeeds_when_all_of_it_does() -> None:
    """Where one of its targets fails, that one is the fallback's outcome."""

    def middling(message: Any) -> None:
        if message.payload == "bad":
            raise PermanentError("no")

    config = {
        "primary": service(probe(flaky(9, PermanentError("no"))), orders={"fallback": "kept"}),
        "good": service(probe(lambda message: None), kept={}),
        "middling": service(probe(middling), kept={}),
    }
    with running(config) as app:
        assert one(app, "good").succeeded
        outcome = one(app, "bad")
        assert not outcome.succeeded
        assert outcome.final.service == "middling"
        assert app.audit()["good.kept"].ok == 2


def test_a_fallback_takes_over_although_its_mailbox_is_full(gate: threading.Event) -> None:
    """The message was accepted once: the bound of the fallback's mailbox does not apply to it again."""
    config = {
        "primary": service(probe(flaky(9, PermanentError("no"))), orders={"fallback": "kept"}),
        "slow": service(
            probe(lambda message: gate.wait(TIMEOUT_S) and "kept"),
            kept={"max_pending": 1, "overflow": "raise"},
        ),
    }
    with running(config, gate) as app:
        app.publish("kept", "in flight")
        assert until(lambda: app.status()["slow.kept"].in_flight == 1)
        app.publish("kept", "waits")
        receipt = app.publish("orders", 1)
        assert until(lambda: app.audit()["primary.orders"].fatal == 1)
        assert not receipt.done()
        gate.set()
        assert receipt.result(timeout_s=TIMEOUT_S) == "kept"


def test_on_outcome_of_the_primary_holds_the_fallback() -> None:
    """It is told at the end of the chain, once; on_fatal is told before."""
    heard = Seen()
    callbacks = {"on_outcome": heard.append, "on_fatal": lambda outcome: heard.append("fatal")}
    config = {
        "bad": service(
            probe(flaky(9, PermanentError("no"))),
            orders={"options": {"callbacks": callbacks}, "fallback": "kept"},
        ),
        "good": service(probe(lambda message: "kept"), kept={}),
    }
    with running(config) as app:
        one(app)
        fatal, outcome = heard.wait(2)
    assert fatal == "fatal"
    assert outcome.fallback.result == "kept"


def test_a_cycle_of_fallbacks_is_refused_at_load() -> None:
    """So is a fallback that does not exist; a channel is no fallback of itself."""
    for channels in (
        {"a": {"fallback": "b"}, "b": {"fallback": "a"}},
        {"a": {"fallback": "a"}},
        {"a": {"fallback": "z"}},
    ):
        with pytest.raises(ConfigError, match="fallback"):
            Rambla({"probe": service(probe(lambda message: None), **channels)})


# -- rate and batches ---------------------------------------------------------------------------------


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
        app.publish_many("orders", [4, 5]).result(timeout_s=TIMEOUT_S)
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


# -- unknown outcomes ---------------------------------------------------------------------------------


def test_an_unknown_outcome_is_retried_with_the_same_id() -> None:
    """``on_unknown = "retry"``, the default: at least once; the loss spends no attempt."""
    ids = Seen()

    def handle(message: Any) -> str:
        ids.append(message.id)
        if len(ids) == 1:
            raise UnknownOutcomeError("gone after the write")
        return "done"

    with running(table(probe(handle), {"retries": 0})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("ok", 1)
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


# -- the end ------------------------------------------------------------------------------------------


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


def test_an_answer_that_nobody_judged_before_the_stop_is_told_as_it_was(gate: threading.Event) -> None:
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
        assert until(lambda: app._targets()[0].roster.crew.in_limbo() == 1)
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
        assert until(lambda: app._targets()[0].roster.crew.in_limbo() == 1)
        for delivery in deliveries[1:]:
            delivery.ok()
        app.stop(timeout_s=0.1)
        assert all(receipt.outcomes(timeout_s=1.0) for receipt in receipts)


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
    """Nobody takes any more: what it handed in ends as dropped, long before ``publish_timeout_s``."""

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
        assert until(lambda: len(app._targets()[0].room.waiters) == 3)
        app.stop(timeout_s=0.0)
        outcomes = [receipt.outcomes(timeout_s=1.0)[0] for receipt in receipts.wait(3)]
    assert {outcome.status for outcome in outcomes} == {"dropped"}


def test_a_task_that_waits_for_room_is_refused_by_the_stop() -> None:
    """``publish_async`` has handed in nothing yet: it raises NotRunningError at once."""

    def connect(self: Handler) -> None:
        raise OSError("nobody listens")

    async def main(app: Rambla) -> None:
        waiting = asyncio.create_task(app.publish_async("orders", "waits"))
        while not app._targets()[0].room.waiters:
            await asyncio.sleep(0)
        await asyncio.to_thread(app.stop, 0.0)
        with pytest.raises(NotRunningError):
            await asyncio.wait_for(waiting, TIMEOUT_S)

    with running(table(probe(lambda message: None, connect=connect), max_pending=1)) as app:
        app.publish("orders", "fills it")
        asyncio.run(main(app))


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


def test_an_exit_without_stop_delivers_what_waits() -> None:
    """The interpreter's end works off the mailbox within ``exit_timeout_s``, callbacks included."""
    lines, _, errors = run_program(list(range(10)), 5.0)
    assert [line for line in lines if line.isdigit()] == [str(n) for n in range(10)]
    assert sorted(line for line in lines if line.startswith("ok")) == sorted(f"ok {n}" for n in range(10))
    assert "Traceback" not in errors


def test_an_exit_with_a_stuck_handler_is_bounded_and_tells() -> None:
    """A handler that hangs does not hang the exit; what was not delivered is told, in the log and to on_outcome."""
    lines, took_s, errors = run_program(["hang", 1, 2], 0.3)
    assert took_s < 10
    assert "3" in errors
    assert "Traceback" not in errors
    assert sorted(lines) == ["dropped 1", "dropped 2", "unknown hang"]


def test_the_rules_hold_for_defaults() -> None:
    """The figures of the table: retries, back-off, pending, time-outs."""
    config = Rambla({"probe": {"handler": probe(lambda message: None), "channels": {"orders": {}}}}).config
    channel = config.services["probe"].channels["orders"]
    assert (channel.policy.retries, channel.policy.expires_s) == (5, 300.0)
    backoff = channel.policy.backoff
    assert (backoff.initial_s, backoff.multiplier, backoff.max_s) == (0.5, 2.0, 60.0)
    assert (channel.max_pending, channel.overflow, channel.publish_timeout_s) == (10_000, "block", 30.0)
    assert (channel.attempt_timeout_s, channel.on_unknown, channel.max_rounds) == (30.0, "retry", 1)
    assert (channel.count, channel.lazy, channel.batch_size, channel.max_in_flight) == (1, True, 500, 2_000)
    assert (channel.max_restarts, channel.max_seconds, channel.batch_timeout_s) == (10, 60.0, 0.0)
    assert channel.slow_restart_s == 30.0
    assert config.rambla.exit_timeout_s == 5.0
    assert AT_ONCE["initial_s"] == 0.0
