"""Traces through real servers: where the context of a message lands, and what its spans say."""

from __future__ import annotations

import json
from typing import Any

import pika
import redis
from traced import Spans, attributes, is_child, traceparent
from web_server import WebServer

from rambla_py import Rambla
from rambla_py.testing import RabbitMqServer, RedisServer

TIMEOUT_S = 20.0


def config(service: str, settings: dict[str, Any], options: dict[str, Any], **channel: Any) -> dict[str, Any]:
    channels = {"orders": {"options": options, **channel}}
    return {service: {"connections": {"one": settings}, "channels": channels}}


def published(table: dict[str, Any], destination: str, *payloads: Any, **options: Any) -> tuple[Any, Any]:
    """Publish in a caller's span; return the create and the send span of the first message."""
    spans = Spans()
    with Rambla(table) as app, spans.of(app):
        with spans.caller() as caller:
            app.publish_many("orders", payloads or ({"n": 1},), **options).result(timeout_s=TIMEOUT_S)
        creates = spans.named("create orders", len(payloads) or 1)
        sends = spans.named(f"send {destination}", len(payloads) or 1)
    assert all(is_child(create, caller) for create in creates)
    assert {send.parent.span_id for send in sends} == {create.context.span_id for create in creates}
    assert len(spans.all()) == 1 + 2 * len(creates), spans.names()
    first = creates[0]
    return first, next(send for send in sends if send.parent.span_id == first.context.span_id)


def test_rabbitmq(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """The context is a header of the message; the destination is exchange and routing key."""
    options = {"routing_key": queue_name, "declare": {"queue": {"name": queue_name}}}
    create, send = published(config("amqp", {"url": rabbitmq.url}, options), queue_name)
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        channel = connection.channel()
        _, properties, _ = channel.basic_get(queue_name, auto_ack=True)
        channel.queue_delete(queue_name)
    assert properties.headers == {"traceparent": traceparent(create)}
    found = attributes(send)
    assert found["messaging.system"] == "rabbitmq"
    assert found["messaging.rabbitmq.destination.routing_key"] == queue_name
    assert (found["server.address"], found["server.port"]) == (rabbitmq.host, rabbitmq.port)
    assert attributes(create)["server.port"] == rabbitmq.port


def test_redis(redis_server: RedisServer, stream_name: str) -> None:
    """A stream has the context as a field; each message of a batch has its own."""
    options = {"command": "xadd", "stream": stream_name}
    create, send = published(config("redis", {"url": redis_server.url}, options), stream_name, 1, 2, 3)
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        entries: Any = client.xrange(stream_name)
    assert entries[0][1]["traceparent"] == traceparent(create)
    assert len({fields["traceparent"] for _, fields in entries}) == 3
    assert attributes(send)["messaging.system"] == "redis"
    assert attributes(send)["messaging.destination.name"] == stream_name


def test_a_command_of_redis_without_headers(redis_server: RedisServer, unique_name: str) -> None:
    """There are spans; the server gets the payload only."""
    published(
        config("redis", {"url": redis_server.url}, {"command": "rpush", "list": unique_name}), unique_name
    )
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        assert client.lrange(unique_name, 0, -1) == ['{"n":1}']


def test_http(web_server: WebServer) -> None:
    """The context is a header of the request; the span has the status of the answer."""
    create, send = published(config("http", {"url": web_server.url}, {}), "orders")
    (request,) = web_server.seen
    assert request.headers["traceparent"] == traceparent(create)
    assert attributes(send)["http.request.method"] == "POST"
    assert attributes(send)["http.response.status_code"] == 200


def test_traced_messages_share_a_request(web_server: WebServer) -> None:
    """300 messages, each with a span of its own, are one request, which has the context of none of them."""
    table = config(
        "http", {"url": web_server.url}, {"body_format": "batch"}, batch_size=300, batch_timeout_s=1.0
    )
    published(table, "orders", *range(300))
    (request,) = web_server.seen
    assert "traceparent" not in request.headers
    assert len(json.loads(request.body)["events"]) == 300
