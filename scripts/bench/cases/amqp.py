"""The cases of RabbitMQ: persistent messages of 256 bytes to a durable queue."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pika

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, publish_confirmed, rate, stopwatch
from bench.raw_amqp import publish_raw

__all__ = ["AMQP", "AMQP_UNCONFIRMED", "amqp_app", "queue"]

BODY = b"x" * 256
PERSISTENT = pika.BasicProperties(delivery_mode=2)


@contextmanager
def queue(context: Context, count: int) -> Iterator[str]:
    """Make a durable queue; at the end check that ``count`` messages lie in it, and delete it."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with pika.BlockingConnection(pika.URLParameters(context.servers["rabbitmq"])) as connection:
        channel = connection.channel()
        channel.queue_declare(name, durable=True)
        yield name
        found = _length(channel, name, count)
        channel.queue_delete(name)
    assert found == count, f"the queue holds {found} messages, not {count}"


def _length(channel: Any, name: str, count: int) -> int:
    """Return the length of a queue, once it has grown to ``count`` or does so no more."""
    found, until = -1, time.monotonic() + 10
    while time.monotonic() < until:
        found = channel.queue_declare(name, passive=True).method.message_count
        if found >= count:
            break
    return int(found)


def amqp_app(context: Context, name: str, **options: Any) -> rambla.Rambla:
    """Return an app with one channel, ``orders``, into that queue."""
    table = {
        "amqp": {
            "connections": {"local": {"url": context.servers["rabbitmq"]}},
            "channels": {"orders": {"max_pending": 1_000_000, "options": {"routing_key": name, **options}}},
        }
    }
    return rambla.Rambla(table)


def _rambla(context: Context) -> Figures:
    count = context.count(60_000)
    with queue(context, count + 1) as name, amqp_app(context, name) as app:
        return rate(count, publish_confirmed(app, "orders", BODY, count))


def _rambla_unconfirmed(context: Context) -> Figures:
    count = context.count(60_000)
    with queue(context, count + 1) as name:
        with amqp_app(context, name, confirm=False, mandatory=False, persistent=False) as app:
            app.publish("orders", BODY).result(timeout_s=30)
            publish = app.publish
            with stopwatch() as watch:
                for _ in range(count):
                    publish("orders", BODY)
                app.flush()
        return rate(count, watch)


def _raw(**properties: Any) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(60_000)
        with queue(context, count) as name:
            with stopwatch() as watch:
                publish_raw(context.servers["rabbitmq"], name, BODY, count, in_flight=2_000, **properties)
            return rate(count, watch)

    return run


# What our messages carry: an id, by which a consumer tells a duplicate, the type of the content, and the
# request to be notified of a message that no queue takes. The broker reads all of it.
OUR_PROPERTIES = {
    "mandatory": True,
    "message_id": "019a8b3c2d1e-4f5a6b7c8d-1a2b3",
    "content_type": "application/octet-stream",
}


def _pika_asynchronous(context: Context) -> Figures:
    count, in_flight = context.count(20_000), 1_000
    with queue(context, count) as name:
        sender = _PikaSender(context.servers["rabbitmq"], name, count, in_flight)
        with stopwatch() as watch:
            sender.run()
        return rate(count, watch)


class _PikaSender:
    """Keeps ``in_flight`` messages in flight on pika's asynchronous connection."""

    def __init__(self, url: str, name: str, count: int, in_flight: int) -> None:
        self._name, self._count, self._in_flight = name, count, in_flight
        self._sent = self._confirmed = 0
        self._channel: Any = None
        self._connection: Any = pika.SelectConnection(
            pika.URLParameters(url), on_open_callback=self._connected
        )

    def run(self) -> None:
        """Send everything, and return when it is confirmed."""
        self._connection.ioloop.start()

    def _connected(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.confirm_delivery(self._answered, callback=lambda _: self._fill())

    def _fill(self) -> None:
        while self._sent < self._count and self._sent - self._confirmed < self._in_flight:
            self._channel.basic_publish("", self._name, BODY, PERSISTENT)
            self._sent += 1

    def _answered(self, answer: Any) -> None:
        method = answer.method
        self._confirmed = method.delivery_tag if method.multiple else self._confirmed + 1
        if self._confirmed >= self._count:
            self._connection.ioloop.stop()
        elif self._sent - self._confirmed <= self._in_flight // 2:
            self._fill()


def _pika_blocking(context: Context) -> Figures:
    count = context.count(3_000)
    with queue(context, count) as name:
        with pika.BlockingConnection(pika.URLParameters(context.servers["rabbitmq"])) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            with stopwatch() as watch:
                for _ in range(count):
                    channel.basic_publish("", name, BODY, PERSISTENT)
        return rate(count, watch)


def _kombu(*, confirmed: bool) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        kombu: Any = importlib.import_module("kombu")
        count = context.count(3_000 if confirmed else 20_000)
        options = {"confirm_publish": confirmed}
        with queue(context, count) as name:
            with kombu.Connection(context.servers["rabbitmq"], transport_options=options) as connection:
                producer = connection.Producer(serializer="raw")
                with stopwatch() as watch:
                    for _ in range(count):
                        producer.publish(BODY, routing_key=name, delivery_mode=2 if confirmed else 1)
            return rate(count, watch)

    return run


def _aio_pika(context: Context) -> Figures:
    import aio_pika

    count = context.count(6_000)

    async def run(name: str) -> Figures:
        async with await aio_pika.connect(context.servers["rabbitmq"]) as connection:
            exchange = (await connection.channel()).default_exchange

            async def send() -> None:
                message = aio_pika.Message(BODY, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await exchange.publish(message, routing_key=name)

            with stopwatch() as watch:
                for batch in _batches(count, 500):
                    await asyncio.gather(*(send() for _ in range(batch)))
        return rate(count, watch)

    with queue(context, count) as name:
        return asyncio.run(run(name))


def _batches(count: int, size: int) -> Iterator[int]:
    yield from itertools.repeat(size, count // size)
    if count % size:
        yield count % size


def _dramatiq(context: Context) -> Figures:
    dramatiq: Any = importlib.import_module("dramatiq")
    brokers: Any = importlib.import_module("dramatiq.brokers.rabbitmq")
    count = context.count(3_000)
    with queue(context, count) as name:
        broker = brokers.RabbitmqBroker(url=context.servers["rabbitmq"], confirm_delivery=True, middleware=[])
        dramatiq.set_broker(broker)
        work = dramatiq.actor(lambda text: None, actor_name="work", queue_name=name)
        # It declares queues of its own with arguments of its own; ours is only counted.
        broker.queues_pending = set()
        with stopwatch() as watch:
            for _ in range(count):
                work.send(BODY.decode())
        broker.close()
        return rate(count, watch)


def _celery(context: Context) -> Figures:
    import celery

    count = context.count(2_000)
    with queue(context, count) as name:
        app = celery.Celery(broker=context.servers["rabbitmq"])
        app.conf.update(
            broker_transport_options={"confirm_publish": True},
            task_default_queue=name,
            task_default_exchange="",
            task_default_routing_key=name,
            task_ignore_result=True,
        )
        with stopwatch() as watch:
            for _ in range(count):
                app.send_task("work", [BODY.decode()])
        app.close()
        return rate(count, watch)


def _faststream(context: Context) -> Figures:
    from faststream.rabbit import RabbitBroker

    count = context.count(4_000)

    async def run(name: str) -> Figures:
        broker = RabbitBroker(context.servers["rabbitmq"], logger=logging.getLogger("bench"))
        async with broker:
            with stopwatch() as watch:
                for _ in range(count):
                    await broker.publish(BODY, routing_key=name, persist=True)
        return rate(count, watch)

    with queue(context, count) as name:
        return asyncio.run(run(name))


AMQP = Case(
    name="amqp",
    title="RabbitMQ, confirmed: persistent messages of 256 bytes to a durable queue",
    servers=("rabbitmq",),
    contenders={
        "rambla": _rambla,
        "raw socket, the same properties": _raw(**OUR_PROPERTIES),
        "raw socket, bare messages": _raw(),
        "pika asynchronous, 1,000 in flight": _pika_asynchronous,
        "aio-pika, gather of 500": _aio_pika,
        "FastStream": _faststream,
        "kombu": _kombu(confirmed=True),
        "pika blocking": _pika_blocking,
        "dramatiq": _dramatiq,
        "Celery": _celery,
    },
    goals=(
        Goal(
            "rambla / raw socket, the same properties (at least 0.95)",
            "rambla",
            "raw socket, the same properties",
            least=0.95,
        ),
        Goal(
            "rambla / raw socket, bare messages (at least 0.9)",
            "rambla",
            "raw socket, bare messages",
            least=0.9,
        ),
        Goal("rambla / kombu (at least 7)", "rambla", "kombu", least=7),
        Goal("rambla / aio-pika (at least 3)", "rambla", "aio-pika, gather of 500", least=3),
        Goal(
            "CPU of a message, rambla / pika asynchronous (at most 0.6)",
            "rambla",
            "pika asynchronous, 1,000 in flight",
            figure="cpu_us",
            most=0.6,
        ),
    ),
)

AMQP_UNCONFIRMED = Case(
    name="amqp_unconfirmed",
    title="RabbitMQ, transient and without confirms",
    servers=("rabbitmq",),
    contenders={"rambla, confirm = false": _rambla_unconfirmed, "kombu": _kombu(confirmed=False)},
    goals=(Goal("rambla / kombu (at least 1.3)", "rambla, confirm = false", "kombu", least=1.3),),
)
