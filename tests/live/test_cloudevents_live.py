"""CloudEvents through real brokers, read back with the specification's own package."""

from __future__ import annotations

import json
from typing import Any

import pika
import redis
from cloudevents.core.bindings import rabbitmq as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from rambla_py import Rambla
from rambla_py.testing import RabbitMqServer, RedisServer

EVENT: dict[str, Any] = {"event_source": "/shop", "event_type": "order.paid", "event_subject": "42"}
TIMEOUT_S = 20.0


def check(event: Any, *, name: str) -> None:
    assert event.get_id() == name
    assert (event.get_source(), event.get_type(), event.get_subject()) == ("/shop", "order.paid", "42")
    assert event.get_data() == {"total": 7}


def test_rabbitmq_delivers_an_event_in_either_mode(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """A consumer reads the same event from structured and from binary mode."""
    options = {"routing_key": queue_name, "declare": {"queue": {"name": queue_name}}, **EVENT}
    table = {"connections": {"one": {"url": rabbitmq.url}}, "channels": {"orders": {"options": options}}}
    with Rambla({"amqp": table}) as app:
        for mode in ("cloudevents", "cloudevents-binary"):
            app.publish("orders", {"total": 7}, id=mode, serializer=mode).result(timeout_s=TIMEOUT_S)
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        channel = connection.channel()
        for mode in ("cloudevents", "cloudevents-binary"):
            _, properties, body = channel.basic_get(queue_name, auto_ack=True)
            message = binding.RabbitMQMessage(properties.headers or {}, properties.content_type, body)
            check(binding.from_rabbitmq(message, JSONFormat(), CloudEvent), name=mode)
        channel.queue_delete(queue_name)


def test_a_redis_stream_holds_an_event_in_fields(redis_server: RedisServer, stream_name: str) -> None:
    """The fields of an entry have the attributes, under the prefix, and the payload as the data."""
    options = {"command": "xadd", "stream": stream_name, "serializer": "cloudevents-binary", **EVENT}
    table = {"connections": {"one": {"url": redis_server.url}}, "channels": {"orders": {"options": options}}}
    with Rambla({"redis": table}) as app:
        app.publish("orders", {"total": 7}, id="the-id").result(timeout_s=TIMEOUT_S)
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        ((_, fields),) = client.xrange(stream_name)  # type: ignore[union-attr,misc]
    attributes = {name[3:]: value for name, value in fields.items() if name.startswith("ce_")}
    del attributes["time"]
    assert fields["content-type"] == "application/json"
    check(CloudEvent(attributes, json.loads(fields["payload"])), name="the-id")
