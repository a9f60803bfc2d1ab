"""Starting, and user code that misbehaves."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, service, table, until
from supervision_cases import connecting, status_of

from rambla_py import (
    Failed,
    Handler,
    Ok,
    PermanentError,
)


class Evil:
    """A value that raises as soon as one looks at what it is."""

    @property  # type: ignore[misc]  # object's own may be assigned to
    def __class__(self) -> Any:
        raise RuntimeError("do not look")

    def __repr__(self) -> str:
        raise RuntimeError("do not print")

    def __bool__(self) -> bool:
        raise RuntimeError("do not ask")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not compare")

    __hash__ = None  # type: ignore[assignment]


class MuteError(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("cannot be printed")

    __repr__ = __str__


def test_a_lazy_channel_starts_with_its_first_message() -> None:
    """Nothing connects before; no thread of the channel's workers runs."""
    connects = Seen()
    with running(table(probe(lambda message: None, connect=connecting(connects)), count=2)) as app:
        assert status_of(app).state == "idle"
        assert not connects
        assert one(app).status == "ok"
        assert len(connects.wait(2)) == 2
        assert until(lambda: status_of(app).workers == ["up", "up"])


def test_a_channel_that_is_not_lazy_starts_with_the_app() -> None:
    """Its workers connect before anything is published."""
    connects = Seen()
    config = table(probe(lambda message: None, connect=connecting(connects)), count=2, lazy=False)
    with running(config) as app:
        connects.wait(2)
        assert until(lambda: status_of(app).state == "up")
        assert app.audit()["probe.orders"].accepted == 0


def test_each_worker_has_a_handler_and_a_connection_of_its_own(gate: threading.Event) -> None:
    """Two workers: two instances, two connections, two threads, at the same time."""
    used = Seen()

    def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        used.append((id(self), state.connection, state.worker, threading.get_ident()))
        gate.wait(TIMEOUT_S)

    handler = probe(handle_publish=handle_publish, connect=lambda self: object())
    with running(table(handler, count=2), gate) as app:
        app.publish_many("orders", [1, 2])
        first, second = used.wait(2)
    assert all(mine != other for mine, other in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit(), OSError("no"), BaseException("bare")]
)
@pytest.mark.parametrize("level", ["publish", "batch", "deliveries", "async", "callable"])
def test_whatever_a_handler_raises_is_a_failed_attempt_and_a_fresh_connection(
    level: str, error: BaseException
) -> None:
    """The worker lives on, takes a new connection, and the message is tried again."""
    connects, attempts = Seen(), Seen()

    def raise_once() -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise error

    def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        raise_once()

    async def handle_async(self: Handler, message: Any, options: Any, state: Any) -> None:
        await asyncio.sleep(0)
        raise_once()

    def handle_batch(self: Handler, messages: Any, state: Any) -> list[None]:
        raise_once()
        return [None] * len(messages)

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        raise_once()
        for delivery in deliveries:
            delivery.ok()

    members: dict[str, dict[str, Any]] = {
        "publish": {"handle_publish": handle_publish},
        "batch": {"handle_batch": handle_batch},
        "deliveries": {"handle_deliveries": handle_deliveries},
        "async": {"handle_publish": handle_async},
        "callable": {"handle_publish": lambda *_: None},
    }
    payload: Any = "x" if level != "callable" else lambda source, destination, options: raise_once()
    with running(table(probe(connect=connecting(connects), **members[level]))) as app:
        outcome = one(app, payload)
        assert (outcome.status, outcome.attempts) == ("ok", 2)
        assert status_of(app).workers == ["up"]
        assert status_of(app).reasons[f"attempt:{type(error).__name__}"] == 1
        if level != "async":
            assert len(connects) == 2


@pytest.mark.parametrize("level", ["publish", "batch", "deliveries", "async"])
def test_a_result_that_raises_when_it_is_looked_at_is_a_result(level: str) -> None:
    """Whatever a handler returns has an outcome; the message after it, too."""

    def answer(message: Any) -> Any:
        return Evil() if message.payload == "evil" else "good"

    async def handle_async(self: Handler, message: Any, options: Any, state: Any) -> Any:
        return answer(message)

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            delivery.ok(answer(delivery))

    members: dict[str, dict[str, Any]] = {
        "publish": {"handle_publish": lambda self, message, options, state: answer(message)},
        "batch": {"handle_batch": lambda self, messages, state: [answer(message) for message in messages]},
        "deliveries": {"handle_deliveries": handle_deliveries},
        "async": {"handle_publish": handle_async},
    }
    with running(table(probe(**members[level]), {"retries": 1, "expires_s": 2.0}), stop_s=1.0) as app:
        evil = app.publish("orders", "evil")
        assert one(app, "good").result == "good"
        evil.outcomes(timeout_s=3.0)


@pytest.mark.parametrize("where", ["raised", "returned", "connect", "callback", "settled"])
def test_an_error_that_cannot_be_printed_does_no_harm(where: str) -> None:
    """A failed attempt, a refused connection or a callback's error with a broken __str__ is like any other."""
    connects = Seen()

    def connect(self: Handler) -> None:
        connects.append(1)
        if where == "connect" and len(connects) == 1:
            raise MuteError

    def handle_deliveries(self: Handler, deliveries: Any, state: Any) -> None:
        for delivery in deliveries:
            delivery.failed(MuteError())

    def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> Any:
        if where == "raised":
            raise MuteError
        return Failed(MuteError()) if where == "returned" else None

    def explode(outcome: Any) -> None:
        raise MuteError

    levels: dict[str, Any] = (
        {"handle_deliveries": handle_deliveries} if where == "settled" else {"handle_publish": handle_publish}
    )
    options = {"retries": 1, "callbacks": {"on_success": explode} if where == "callback" else {}}
    with running(table(probe(connect=connect, **levels), options)) as app:
        receipt = app.publish("orders", 1)
        outcome = receipt.outcomes(timeout_s=3.0)[0]
        assert outcome.status == ("ok" if where in ("connect", "callback") else "fatal")
        assert until(lambda: status_of(app).workers == ["up"])
        repr(app.status())
        if outcome.status == "fatal":
            with pytest.raises(Exception, match="did not succeed"):
                receipt.result()


@pytest.mark.parametrize(
    "answers",
    [[], [None], [None] * 4, None, 7, "abc", b"abc", {"a": 1}, {1, 2, 3}, iter([None] * 3), Ok([None] * 3)],
    ids=["none", "short", "long", "nothing", "number", "text", "bytes", "dict", "set", "iterator", "ok"],
)
def test_a_batch_with_another_number_of_results_fails_as_a_whole(answers: Any) -> None:
    """A wrong length, or no list at all, is a failed attempt of all that are not settled; the text says so."""

    def handle_batch(self: Handler, messages: Any, state: Any) -> Any:
        seen.append(1)
        return answers

    seen = Seen()
    with running(
        table(probe(handle_batch=handle_batch), {"retries": 0}, batch_size=3, batch_timeout_s=5.0)
    ) as app:
        outcomes = app.publish_many("orders", range(3)).outcomes(timeout_s=TIMEOUT_S)
    assert {outcome.status for outcome in outcomes} == {"fatal"}
    assert all("one result for each of 3" in str(outcome.error) for outcome in outcomes)
    assert len(seen) == 1


def test_a_batch_answers_each_message_by_itself() -> None:
    """Results, Ok, Failed and exceptions side by side: each is the answer to its own message."""
    answers = ["value", Ok(5), Failed("no", retryable=False), PermanentError("no"), None]

    def handle_batch(self: Handler, messages: Any, state: Any) -> Any:
        return [answers[message.payload] for message in messages]

    with running(table(probe(handle_batch=handle_batch))) as app:
        outcomes = app.publish_many("orders", range(5)).outcomes(timeout_s=TIMEOUT_S)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok", "fatal", "fatal", "ok"]
    assert [outcome.result for outcome in outcomes] == ["value", 5, None, None, None]


def test_a_handler_whose_constructor_raises_takes_only_its_channel_down() -> None:
    """Its messages expire, the status says that it does not run, and the other channel works."""

    def __init__(self: Handler, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        raise SystemExit("no handler today")

    config = {
        "bad": service(
            probe(lambda message: None, __init__=__init__),
            broken={"options": {"expires_s": 0.3}, "max_restarts": 2},
        ),
        "good": service(probe(lambda message: None), orders={}),
    }
    with running(config, stop_s=1.0) as app:
        receipt = app.publish("broken", 1)
        assert one(app).status == "ok"
        assert receipt.outcomes(timeout_s=3.0)[0].status == "expired"
        assert until(lambda: status_of(app, "bad.broken").state == "down")


@pytest.mark.parametrize("where", ["connect", "on_failure", "ping", "close"])
def test_async_user_code_that_raises_system_exit_does_no_harm(where: str) -> None:
    """SystemExit out of a coroutine is an error like any other; nothing waits for an answer that never comes."""
    calls = Seen()

    def member(name: str) -> Any:
        async def call(self: Handler, *_: Any) -> None:
            await asyncio.sleep(0)
            if name == where:
                calls.append(name)
                if len(calls) == 1:
                    raise SystemExit(f"from {name}")

        return call

    async def handle_publish(self: Handler, message: Any, options: Any, state: Any) -> None:
        if message.attempts == 1 and where == "on_failure":
            raise ValueError("no")

    members = {name: member(name) for name in ("connect", "on_failure", "ping", "close")}
    with running(table(probe(handle_publish=handle_publish, **members))) as app:
        assert app.publish("orders", 1).outcomes(timeout_s=4.0)[0].status == "ok"
        ping = app.ping(timeout_s=4.0)[0]
        assert ping.took_s < 4.0
        assert one(app).status == "ok"
