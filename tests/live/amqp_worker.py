"""A worker of the amqp handler without a pool, and a view of what arrived."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from delivery_target import live_delivery

from rambla_py.config.conversion import dec_hook
from rambla_py.delivery import Delivery
from rambla_py.handler import Link, State
from rambla_py.handlers.amqp import AmqpHandler
from rambla_py.message import Ok
from rambla_py.policy import Policy
from rambla_py.serialization.encoding import encode
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import Server

Proxies = Callable[[Server], FaultProxy]

WAIT_S = 20.0
_numbers = itertools.count(1)


class Target:
    service, channel, id_prefix = "amqp", "orders", "run-"

    def encode(self, delivery: Delivery) -> bytes:
        return encode(delivery.payload, format=delivery.policy.format, serializer=delivery.policy.serializer)

    def expect_ids(self) -> None:
        """Draw no ids beforehand."""


class Worker:
    """A handler with a live connection, and the first answer to each delivery."""

    def __init__(self, settings: dict[str, Any], options: dict[str, Any], *, late: bool = False) -> None:
        self.options = msgspec.convert(options, AmqpHandler.Options)
        self.handler = AmqpHandler(
            msgspec.convert(settings, AmqpHandler.Connection, dec_hook=dec_hook),
            channel="orders",
            service="amqp",
            options=self.options,
        )
        self.answers: dict[Delivery, Any] = {}
        self.held: list[bool] = []
        self.waiting: list[Delivery] = []
        self.lost: BaseException | None = None
        self._changed = threading.Condition()
        self.connection: Any = None
        if not late:
            self.connect()

    def connect(self) -> None:
        self.lost = None
        self.handler.link = Link(self._on_lost, self._on_hold, self._on_wait, self._on_begin)
        self.connection = self.handler.connect()
        self.state = State(self.connection, "orders", "amqp")

    def close(self) -> None:
        self.handler.close(self.connection)

    def make(self, payload: Any, *, given_id: str | None = None, **changes: Any) -> Delivery:
        headers = changes.pop("headers", {})
        options = self.options
        if changes:
            table = {**msgspec.to_builtins(options), **changes}
            options = msgspec.convert(table, AmqpHandler.Options)
        return live_delivery(
            payload=payload,
            target=Target(),
            receipt=None,
            seq=next(_numbers),
            accepted_at=0.0,
            options=options,
            policy=Policy(),
            headers=headers,
            given_id=given_id,
            session=self,
        )

    def send(self, *payloads: Any) -> list[Delivery]:
        made = [each if isinstance(each, Delivery) else self.make(each) for each in payloads]
        self.handler.handle_deliveries(made, self.state)
        return made

    def publish(self, *payloads: Any) -> list[Any]:
        """Send, wait, and return the answers in order."""
        made = self.send(*payloads)
        self.wait(lambda: all(each in self.answers for each in made))
        return [self.answers[each] for each in made]

    def settle(self, delivery: Delivery, answer: Any) -> None:
        with self._changed:
            self.answers.setdefault(delivery, answer)
            self._changed.notify_all()

    def settle_ok(self, delivery: Delivery, result: Any) -> None:
        self.settle(delivery, Ok(result))

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_S), f"not within {WAIT_S:g} s: {self.connection!r}"

    def _on_lost(self, error: BaseException) -> None:
        with self._changed:
            self.lost = error
            self._changed.notify_all()

    def _on_wait(self, deliveries: Sequence[Delivery]) -> None:
        with self._changed:
            self.waiting += deliveries
            self._changed.notify_all()

    def _on_begin(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        with self._changed:
            begun = [delivery for delivery in deliveries if delivery in self.waiting]
            for delivery in begun:
                self.waiting.remove(delivery)
            return begun

    def _on_hold(self, held: bool) -> None:
        with self._changed:
            self.held.append(held)
            self._changed.notify_all()


@contextmanager
def worker(server: Any, settings: dict[str, Any] | None = None, **options: Any) -> Iterator[Worker]:
    made = Worker({"host": server.host, "port": server.port, **(settings or {})}, options)
    try:
        yield made
    finally:
        made.close()


def to_queue(name: str, **arguments: Any) -> dict[str, Any]:
    """Options that lead to a queue of that name, declared on the way."""
    return {"routing_key": name, "declare": {"queue": {"name": name, "arguments": arguments}}}


def bodies(channel: Any, queue: str) -> list[bytes]:
    """Take all that is in a queue."""
    taken = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return taken
        taken.append(body)


def depth(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def app_config(server: Any, queue: str, **channel: Any) -> dict[str, Any]:
    url = f"amqp://guest:guest@{server.host}:{server.port}/%2F"
    return {
        "amqp": {
            "connections": {"local": {"url": url}},
            "channels": {"orders": {"connection": "local", "options": to_queue(queue), **channel}},
        }
    }
