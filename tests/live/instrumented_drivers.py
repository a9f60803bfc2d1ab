"""A program that publishes with drivers instrumented as OpenTelemetry's packages for them do it.

``instrumented_drivers.py KAFKA_SERVERS REDIS_URL AMQP_URL QUEUE`` prints what went through the instrumented functions.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import confluent_kafka
import pika
import redis

CALLS: list[str] = []


def watch(kind: type, *names: str) -> None:
    """Let functions of a class add their name to ``CALLS``."""

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*args: Any, **options: Any) -> Any:
            CALLS.append(name)
            return function(*args, **options)

        return called

    for name in names:
        setattr(kind, name, watched(f"{kind.__name__}.{name}", getattr(kind, name)))


class InstrumentedProducer(confluent_kafka.Producer):
    """In place of the driver's, as in its package."""


def instrument() -> None:
    """Before anything else imports the drivers, as ``opentelemetry-instrument`` does."""
    watch(InstrumentedProducer, "produce")
    confluent_kafka.Producer = InstrumentedProducer  # type: ignore[misc]
    watch(redis.Redis, "execute_command", "pipeline")
    watch(redis.client.Pipeline, "execute", "immediate_execute_command")
    watch(pika.BlockingConnection, "channel")


def main(servers: str, redis_url: str, amqp_url: str, queue: str) -> None:
    """Publish to each, and once with each driver itself."""
    from rambla_py import Rambla

    table = {
        "kafka": ({"servers": servers}, {"topic": "paid"}),
        "redis": ({"url": redis_url}, {"command": "xadd", "stream": queue}),
        "amqp": ({"url": amqp_url}, {"routing_key": queue, "declare": {"queue": {"name": queue}}}),
    }
    config = {
        service: {"connections": {"one": settings}, "channels": {"orders": {"options": options}}}
        for service, (settings, options) in table.items()
    }
    with Rambla(config) as app:
        app.publish_many("orders", [1, 2]).result(timeout_s=20)
    print("ours:", *CALLS)
    confluent_kafka.Producer({"bootstrap.servers": servers}).produce("paid", b"1")
    with redis.Redis.from_url(redis_url) as client:
        client.delete(queue)
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        connection.channel().queue_delete(queue)
    print("theirs:", *CALLS)


if __name__ == "__main__":
    instrument()
    main(*sys.argv[1:])
