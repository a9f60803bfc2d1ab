"""Traces through real servers: where the context of a message lands, and what its spans say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from traced import Spans, attributes, is_child, traceparent
from traced_places import PLACES, Place
from web_server import Reply, WebServer

from rambla_py import Message, Rambla
from rambla_py.testing import RabbitMqServer, RedisServer
from rambla_py.testing.kafka_cluster import KafkaCluster

TIMEOUT_S = 20.0
STATE = TraceState([("shop", "1")])
ABOVE = SpanContext(
    0x1234, 0x5678, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED), trace_state=STATE
)


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each kind of place that messages go to."""
    with PLACES[request.param](request.getfixturevalue) as made:
        yield made


@pytest.fixture
def from_elsewhere() -> Iterator[None]:
    """A context that came with a request: a trace with a state, and baggage."""
    token = context.attach(baggage.set_baggage("who", "ann", set_span_in_context(NonRecordingSpan(ABOVE))))
    yield
    context.detach(token)


@pytest.mark.usefixtures("from_elsewhere")
def test_each_message_lands_with_the_context_of_its_own_span(place: Place) -> None:
    """Where the backend has a place for it. Spans show where it went, and nothing that it holds."""
    spans = Spans()
    with Rambla(place.table) as app, spans.of(app):
        with spans.caller() as caller:
            messages = [Message(place.payload(number), id=f"m{number}") for number in range(3)]
            app.publish_many("orders", messages, headers={"kind": "c4n4ry"}).result(timeout_s=TIMEOUT_S)
        creates = spans.named("create orders", 3)
        sends = spans.named(f"send {place.destination}", 3)
    assert len(spans.all()) == 7, spans.names()
    assert all(is_child(create, caller) for create in creates)
    (target,) = app.config.every_channel()
    landed = place.landed()
    assert sorted(landed) == [0, 1, 2]
    by_span = {send.parent.span_id: send for send in sends}
    for number, create in enumerate(creates):
        carried = {"traceparent": traceparent(create), "tracestate": "shop=1", "baggage": "who=ann"}
        found = {name: value for name, value in landed[number].items() if name in carried}
        assert found == {name: carried[name] for name in place.fields}
        send = by_span[create.context.span_id]
        assert is_child(send, create)
        common = {
            "messaging.system": place.system,
            "messaging.destination.name": place.destination,
            "messaging.message.id": f"m{number}",
            "rambla.service": place.service,
            "rambla.channel": "orders",
            "rambla.handler": target.handler.__name__,
        }
        if place.server is not None:
            common |= {"server.address": place.server.host, "server.port": place.server.port}
        shown = dict(attributes(send))
        assert 1 <= shown.pop("rambla.batch_size") <= 3
        assert shown == {
            **common,
            **place.attributes,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "rambla.attempt": 1,
        }


@contextmanager
def batches_to(server: WebServer, spans: Spans, size: int, **options: Any) -> Iterator[Rambla]:
    """Run a traced app whose batches are requests of so many messages."""
    channel = {
        "options": {"body_format": "batch", "retries": 0},
        "batch_size": size,
        "batch_timeout_s": TIMEOUT_S,
        "on_unknown": "report",
    }
    table = {"http": {"connections": {"one": {"url": server.url}}, "channels": {"orders": channel}}}
    with Rambla(table) as app, spans.of(app, **options):
        yield app


def requests_of(spans: Spans) -> list[ReadableSpan]:
    """Return the spans of requests, each of several messages."""
    return [span for span in spans.all() if "messaging.batch.message_count" in attributes(span)]


def test_a_request_of_traced_messages_has_a_span_that_links_to_each(web_server: WebServer) -> None:
    """300 messages, each with spans of its own, are one request; its context is that of its span."""
    spans = Spans()
    with batches_to(web_server, spans, 300) as app:
        with spans.caller():
            app.publish_many("orders", range(300)).result(timeout_s=TIMEOUT_S)
        creates, sends = spans.named("create orders", 300), spans.named("send orders", 301)
    (request,), (span,) = web_server.seen, requests_of(spans)
    assert len(json.loads(request.body)["events"]) == 300
    assert request.headers["traceparent"] == traceparent(span)
    linked = {link.context.span_id for link in span.links}
    assert linked < {create.context.span_id for create in creates}
    assert len(linked) + span.dropped_links == 300  # by default the SDK keeps 128
    assert span.parent is None
    assert {send.parent.span_id for send in sends if send is not span} == {
        create.context.span_id for create in creates
    }
    shown = attributes(span)
    assert (shown["messaging.batch.message_count"], shown["rambla.batch_size"]) == (300, 300)
    assert (shown["http.request.method"], shown["http.response.status_code"]) == ("POST", 200)
    assert "messaging.message.id" not in shown


def test_a_refused_request_is_a_span_with_its_status_and_each_half_has_its_own(web_server: WebServer) -> None:
    """A server that refuses one event is asked again for the others, with spans that link to those only."""
    web_server.answer = lambda seen: Reply(422 if b"bad" in seen.body else 200)
    spans = Spans()
    with batches_to(web_server, spans, 4) as app:
        with spans.caller():
            app.publish_many("orders", ["a", "b", "c", "bad"]).outcomes(timeout_s=TIMEOUT_S)
        creates = [create.context.span_id for create in spans.named("create orders", 4)]
        (failed,) = (one for one in spans.named("send orders", 7) if _status(one) == 422 and not one.links)
    whole, *halves = requests_of(spans)
    linked = [[creates.index(link.context.span_id) for link in one.links] for one in (whole, *halves)]
    assert linked == [[0, 1, 2, 3], [0, 1], [2, 3]]
    assert [_status(one) for one in (whole, *halves)] == [422, 200, 422]
    assert whole.status.status_code is StatusCode.ERROR
    assert attributes(whole)["error.type"] == "RefusedError"
    assert failed.parent.span_id == creates[3]
    assert [request.headers["traceparent"] for request in web_server.seen[:1]] == [traceparent(halves[0])]


def _status(span: ReadableSpan) -> Any:
    return attributes(span).get("http.response.status_code")


@pytest.mark.parametrize("status", [404, 500, 502])
def test_the_span_of_a_failed_request_shows_the_status_of_the_answer(
    status: int, web_server: WebServer
) -> None:
    """Of one that is fatal, retried, or has an unknown outcome."""
    web_server.answer = lambda seen: Reply(status)
    spans = Spans()
    with batches_to(web_server, spans, 1) as app:
        with spans.caller():
            app.publish("orders", 1).outcomes(timeout_s=TIMEOUT_S)
        (send,) = spans.named("send orders")
    assert _status(send) == status
    assert send.status.status_code is StatusCode.ERROR


def test_a_request_without_an_answer_ends_its_span(web_server: WebServer) -> None:
    """As an error."""
    web_server.answer = lambda seen: Reply(cut=True)
    spans = Spans()
    with batches_to(web_server, spans, 2) as app:
        with spans.caller():
            app.publish_many("orders", [1, 2]).outcomes(timeout_s=TIMEOUT_S)
        (span,) = requests_of(spans)
    assert attributes(span)["error.type"] == "UnknownOutcomeError"


@pytest.mark.usefixtures("from_elsewhere")
def test_messages_with_one_context_pass_it_on(web_server: WebServer) -> None:
    """The span of the request is its child; a context that is not sampled goes as it is, without a span."""
    spans, unsampled = Spans(), Spans.unsampled()
    with batches_to(web_server, spans, 2, create_spans=False) as app:
        with spans.caller() as caller:
            app.publish_many("orders", [1, 2]).result(timeout_s=TIMEOUT_S)
        with unsampled.caller() as other:
            app.publish_many("orders", [3, 4]).result(timeout_s=TIMEOUT_S)
    (span,), (first, second) = requests_of(spans), web_server.seen
    assert is_child(span, caller)
    assert [link.context.span_id for link in span.links] == [caller.get_span_context().span_id]
    assert (first.headers["traceparent"], second.headers["traceparent"]) == (
        traceparent(span),
        traceparent(other),
    )
    assert {one.headers["tracestate"] for one in web_server.seen} == {"shop=1"}
    assert {one.headers["baggage"] for one in web_server.seen} == {"who=ann"}


def test_traced_messages_share_an_object(tmp_path: Path) -> None:
    """Each context belongs to one message, and is no reason for an object of its own."""
    spans = Spans()
    options = {"body_format": "ndjson", "record": "full", "compression": "none"}
    channel = {"options": options, "batch_size": 300, "batch_timeout_s": TIMEOUT_S}
    connections = {"one": {"url": tmp_path.as_uri()}}
    with Rambla({"objects": {"connections": connections, "channels": {"orders": channel}}}) as app:
        with spans.of(app), spans.caller():
            app.publish_many("orders", range(300)).result(timeout_s=TIMEOUT_S)
        creates = spans.named("create orders", 300)
    (made,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    lines = [json.loads(line) for line in made.read_text("utf-8").splitlines()]
    assert [line["headers"]["traceparent"] for line in lines] == [traceparent(create) for create in creates]


def test_drivers_are_used_beneath_what_others_instrument(
    kafka_cluster: KafkaCluster, redis_server: RedisServer, rabbitmq: RabbitMqServer, queue_name: str
) -> None:
    """Packages that instrument the drivers make no second span, nor a second header, of what we send."""
    program = Path(__file__).with_name("instrumented_drivers.py")
    where = [kafka_cluster.servers, redis_server.url, rabbitmq.url, queue_name]
    done = subprocess.run(
        [sys.executable, program, *where], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        "ours:",
        "theirs: InstrumentedProducer.produce Redis.execute_command BlockingConnection.channel",
    ], done.stderr
