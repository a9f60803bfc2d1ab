"""What handlers say about where a channel sends to."""

from __future__ import annotations

from typing import Any

import pytest

from rambla_py import Described, Rambla

SECRET = "c4n4ry-s3cret"
AMQP = f"amqp://u:{SECRET}@broker:5671/%2f"
ROUTED = "messaging.rabbitmq.destination.routing_key"


def described(service: str, settings: dict[str, Any], options: dict[str, Any]) -> Described:
    table = {"connections": {"one": settings}, "channels": {"orders": {"options": options}}}
    (target,) = Rambla({service: table}).config.every_channel()
    handler = target.handler(
        target.settings, channel=target.channel, service=target.service, options=target.options
    )
    found = handler.describe(target.options)
    assert SECRET not in repr(found)
    return found


@pytest.mark.parametrize(
    ("service", "settings", "options", "expected"),
    [
        ("amqp", {"url": AMQP}, {}, Described("rabbitmq", "orders", "broker", 5671, {ROUTED: "orders"})),
        (
            "amqp",
            {"host": "broker"},
            {"exchange": "shop", "routing_key": "paid"},
            Described("rabbitmq", "shop:paid", "broker", None, {ROUTED: "paid"}),
        ),
        ("amqp", {"url": AMQP}, {"exchange": "fan"}, Described("rabbitmq", "fan", "broker", 5671)),
        ("kombu", {"url": AMQP}, {"queue": "q"}, Described("rabbitmq", "q", "broker", 5671)),
        ("kombu", {"url": "redis://cache:6379/0"}, {}, Described("redis", "orders", "cache", 6379)),
        ("kafka", {"servers": ["a:9092", "b:9093"]}, {"topic": "paid"}, Described("kafka", "paid", "a", 9092)),
        ("nats", {"url": f"nats://u:{SECRET}@n:4222"}, {"subject": "a.b"}, Described("nats", "a.b", "n", 4222)),
        ("mqtt", {"host": "m", "port": 1883}, {}, Described("mqtt", "orders", "m", 1883)),
        ("redis", {"url": "unix:///run/redis.sock"}, {"command": "publish", "topic": "t"}, Described("redis", "t")),
        ("redis", {"host": "::1"}, {}, Described("redis", "orders")),
        (
            "http",
            {"url": f"https://u:{SECRET}@shop.example/hook/{SECRET}"},
            {"method": "PUT"},
            Described("rambla", "orders", "shop.example", None, {"http.request.method": "PUT"}),
        ),
        (
            "sql",
            {"url": f"postgresql+psycopg://u:{SECRET}@db:5432/shop"},
            {"table": "paid"},
            Described("rambla", "paid", "db", 5432, {"db.system.name": "postgresql", "db.collection.name": "paid"}),
        ),
        (
            "sql",
            {"url": "sqlite:///shop.db"},
            {},
            Described("rambla", "orders", None, None, {"db.system.name": "sqlite", "db.collection.name": "orders"}),
        ),
        (
            "clickhouse",
            {"url": "http://ch:8123"},
            {"tables": ["a", "b"]},
            Described("rambla", "a", "ch", 8123, {"db.system.name": "clickhouse", "db.collection.name": "a"}),
        ),
        ("smtp", {"relay": "mx", "port": 25}, {"to": ["a@example.com"]}, Described("rambla", "orders", "mx", 25)),
        ("objects", {"url": "memory://"}, {}, Described("rambla", "orders")),
        ("null", {}, {}, Described("rambla", "orders")),
    ],
)  # fmt: skip
def test_a_handler_describes_its_destination(
    service: str, settings: dict[str, Any], options: dict[str, Any], expected: Described
) -> None:
    """System, destination and server, from settings and options, without secrets."""
    assert described(service, settings, options) == expected
