"""Failures keep no message alive, at any level of the contract."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rambla_py as rambla
from rambla_py.errors import SerializationError
from rambla_py.testing.processes import deadline

NUMBER = 20
QUICK = {"initial_s": 0.0, "max_s": 0.0}


class Payload:
    """A payload that can be watched."""


def fail(messages: Any) -> Any:
    """Raise with the message in a frame, and as a cause whose frame has it too."""
    held = messages
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError(f"no {type(held).__name__}") from error


class Publishes(rambla.Handler):
    """Fails one message at a time."""

    guarantee = "none"

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        fail(message)


class PublishesAsync(rambla.Handler):
    """Fails one message at a time, on a loop."""

    guarantee = "none"

    async def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        await asyncio.sleep(0)
        fail(message)


class ReturnsFailed(rambla.Handler):
    """Returns the error instead of raising it."""

    guarantee = "none"

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        try:
            fail(message)
        except ValueError as error:
            return rambla.Failed(error)


class Batches(rambla.Handler):
    """Fails a batch."""

    guarantee = "none"

    def handle_batch(self, messages: Any, state: Any) -> Any:
        fail(messages)


class BatchesAsync(rambla.Handler):
    """Fails a batch, on a loop."""

    guarantee = "none"

    async def handle_batch(self, messages: Any, state: Any) -> Any:
        await asyncio.sleep(0)
        fail(messages)


class BatchOfErrors(rambla.Handler):
    """Answers each message of a batch with its error."""

    guarantee = "none"

    def handle_batch(self, messages: Any, state: Any) -> Any:
        answers = []
        for message in messages:
            try:
                fail(message)
            except ValueError as error:
                answers.append(error)
        return answers


class Deliveries(rambla.Handler):
    """Raises when it takes them."""

    guarantee = "none"

    def handle_deliveries(self, deliveries: Any, state: Any) -> None:
        fail(deliveries)


class DeliveriesAsync(rambla.Handler):
    """Raises when it takes them, on a loop."""

    guarantee = "none"

    async def handle_deliveries(self, deliveries: Any, state: Any) -> None:
        await asyncio.sleep(0)
        fail(deliveries)


class SettlesLater(rambla.Handler):
    """Settles each from a thread of its own."""

    guarantee = "none"

    def handle_deliveries(self, deliveries: Any, state: Any) -> None:
        threading.Thread(target=_settle, args=(list(deliveries),)).start()


def _settle(deliveries: list[Any]) -> None:
    for delivery in deliveries:
        try:
            fail(delivery)
        except ValueError as error:
            delivery.failed(error)


class LosesFirst(rambla.Handler):
    """Loses the connection at the first attempt, fails at the next."""

    guarantee = "none"
    lost = False

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        if not LosesFirst.lost:
            LosesFirst.lost = True
            raise rambla.UnknownOutcomeError("gone") from KeyError(message.payload)
        fail(message)


class CannotEncode(rambla.Handler):
    """Encodes what has no encoding."""

    guarantee = "none"

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        held = message.payload
        raise SerializationError(f"no encoding for {type(held).__name__}")


def raises(outcome: Any) -> Any:
    fail(outcome)


def raises_its_error(outcome: Any) -> Any:
    raise outcome.error


LEVELS = [
    Publishes,
    PublishesAsync,
    ReturnsFailed,
    Batches,
    BatchesAsync,
    BatchOfErrors,
    Deliveries,
    DeliveriesAsync,
    SettlesLater,
    LosesFirst,
    CannotEncode,
]
CALLBACKS = [
    {},
    {"on_failure": raises, "on_fatal": raises, "on_outcome": raises},
    {"on_failure": raises_its_error, "on_fatal": raises_its_error, "on_outcome": raises_its_error},
]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Spare the log the failures, and pytest the records that it would keep."""
    logger = logging.getLogger("rambla_py")
    logger.setLevel(logging.CRITICAL + 1)
    LosesFirst.lost = False
    yield
    logger.setLevel(logging.NOTSET)


def published(app: rambla.Rambla) -> list[weakref.ref[Payload]]:
    """Publish, wait for the end, and return what shows whether the payloads are still alive."""
    refs = []
    receipts = []
    for _ in range(NUMBER):
        payload = Payload()
        refs.append(weakref.ref(payload))
        receipts.append(app.publish("orders", payload))
    for receipt in receipts:
        assert receipt.outcomes(timeout_s=20)[0].status == "fatal"
    assert app.flush(timeout_s=20)
    return refs


def alive(refs: list[weakref.ref[Payload]]) -> int:
    gc.collect()
    return sum(ref() is not None for ref in refs)


def gone(refs: list[weakref.ref[Payload]], *, but: int = 0, timeout_s: float = 10.0) -> bool:
    """Wait until callbacks are over and nothing ``but`` so many is alive."""
    return any(alive(refs) <= but for _ in deadline(timeout_s, poll_s=0.05))


@pytest.mark.parametrize("callbacks", CALLBACKS, ids=["none", "raise", "raise the error"])
@pytest.mark.parametrize("handler", LEVELS)
def test_a_failed_message_is_freed(handler: type[rambla.Handler], callbacks: dict[str, Callable]) -> None:
    """After the end no payload is alive, while the app still runs."""
    options = {"retries": 1, "backoff": QUICK, "callbacks": callbacks}
    channel = {"snapshot": False, "options": options}
    table = {"probe": {"handler": handler, "connections": {"c": {}}, "channels": {"orders": channel}}}
    try:
        app = rambla.Rambla(table)
    except rambla.ConfigError:  # until the option exists
        del channel["snapshot"]
        app = rambla.Rambla(table)
    with app:
        refs = published(app)
        assert gone(refs), f"{alive(refs)} of {NUMBER} payloads are alive"


class NeverConnects(rambla.Handler):
    """Has a server that is away."""

    guarantee = "none"

    def connect(self) -> None:
        raise OSError("refused")

    def handle_publish(self, message: Any, options: Any, state: Any) -> Any:
        raise AssertionError("it has no connection")


OWN_EXPIRY = [
    {},
    {"priority": "high"},
    {"key": "one"},
    {"key": None},
    {"delay_s": 0.01},
]


@pytest.mark.parametrize("options", OWN_EXPIRY, ids=["plain", "high", "one key", "many keys", "delayed"])
@pytest.mark.parametrize("waits", [False, True], ids=["alone", "another waits"])
def test_what_expires_while_nothing_connects_is_freed(options: dict[str, Any], waits: bool) -> None:
    """However long a server is away, what expired meanwhile takes no more memory than what waits."""
    table = {"handler": NeverConnects, "connections": {"c": {}}, "channels": {"orders": {"snapshot": False}}}
    app = rambla.Rambla({"probe": table})
    app.start()
    refs: list[weakref.ref[Payload]] = []
    if waits:
        app.publish("orders", "another", key="another")
    for _ in range(10):
        receipts = []
        for at in range(50):
            payload = Payload()
            refs.append(weakref.ref(payload))
            own = {"key": str(at)} if "key" in options and options["key"] is None else options
            receipts.append(app.publish("orders", payload, expires_s=0.05, **own))
        for receipt in receipts:
            assert receipt.outcomes(timeout_s=20)[0].status == "expired"
    del payload, receipts, receipt
    assert gone(refs, but=int(waits)), f"{alive(refs)} of {len(refs)} payloads are alive"
    app.stop(timeout_s=0.2)
