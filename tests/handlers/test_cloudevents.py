"""Messages as CloudEvents 1.0, read back with the specification's own package."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from amqp_deliveries import amqp_delivery
from amqp_wire import header_of
from cloudevents.core.bindings import http, kafka, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from handler_case import delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py import ConfigError, OptionError, Rambla, load_config
from rambla_py.errors import PermanentError, SerializationError
from rambla_py.handlers import memory
from rambla_py.handlers.amqp.encode import FrameEncoder
from rambla_py.handlers.clickhouse.encode import rows_of
from rambla_py.handlers.redis.encode import RedisOptions, encoder_for
from rambla_py.serialization.cloudevents import check_extensions
from rambla_py.serialization.encoding import as_object, encode
from rambla_py.serialization.wire_format import body_of, embedded, media_type, wire_headers

STRUCTURED: dict[str, Any] = {"serializer": "cloudevents"}
BINARY: dict[str, Any] = {"serializer": "cloudevents-binary"}


def structured(payload: Any, **options: Any) -> CloudEvent:
    """Return the event that the specification's package reads from a message in structured mode."""
    event = JSONFormat().read(CloudEvent, delivery(payload, **{**STRUCTURED, **options}).body())
    assert isinstance(event, CloudEvent)
    return event


def test_a_message_is_an_event() -> None:
    """Its id is the message's, its time that of the call, its source and type the channel's unless given."""
    message = delivery({"id": 42}, **STRUCTURED)
    event = JSONFormat().read(CloudEvent, message.body())
    assert (event.get_id(), event.get_source(), event.get_type()) == (message.id, "/orders", "orders")
    assert event.get_datacontenttype() == "application/json"
    assert event.get_data() == {"id": 42}
    assert abs(event.get_time() - datetime.now(UTC)) < timedelta(seconds=60)
    assert media_type(message) == "application/cloudevents+json"


def test_an_event_has_one_time_in_each_attempt() -> None:
    """It is that of the call, to the millisecond: receivers compare what comes twice."""
    message = delivery({"a": 1}, **BINARY)
    # Half a microsecond before a millisecond ends: the least difference shows.
    message.accepted_at = time.monotonic() - time.time() % 0.001 - 0.5e-6
    assert len({wire_headers(message, "ce-")["ce-time"] for _ in range(5_000)}) == 1


def test_attributes_come_from_the_options() -> None:
    """Source, type, subject, schema, media type and extensions are what the options say."""
    event = structured(
        "<order/>",
        key="customer-7",
        event_source="https://shop.example/orders",
        event_type="order.paid",
        event_subject="42",
        event_schema="https://shop.example/order.xsd",
        event_content_type="application/xml",
        event_extensions=check_extensions({"tenant": "blue", "attempt": 3, "urgent": True}),
    )
    assert (event.get_source(), event.get_type(), event.get_subject()) == (
        "https://shop.example/orders",
        "order.paid",
        "42",
    )
    assert event.get_dataschema() == "https://shop.example/order.xsd"
    assert (event.get_datacontenttype(), event.get_data()) == ("application/xml", "<order/>")
    assert [event.get_extension(name) for name in ("tenant", "attempt", "urgent", "partitionkey")] == [
        "blue",
        3,
        True,
        "customer-7",
    ]


@pytest.mark.parametrize(
    ("payload", "options", "kind", "data"),
    [
        ("text", {}, "text/plain", "text"),
        (b"\xff\x00", {}, "application/octet-stream", b"\xff\x00"),
        (bytearray(b"ab"), {}, "application/octet-stream", b"ab"),
        ('{"a": 1}', {"event_content_type": "application/vnd.x+json"}, "application/vnd.x+json", {"a": 1}),
        (b'{"a": 1}', {"event_content_type": "application/json"}, "application/json", {"a": 1}),
        ('{"a": 1}', {"format": "object"}, "application/json", {"a": 1}),
        ([1], {"format": "object"}, "application/json", {"value": [1]}),
        (None, {}, "application/json", None),
        ("text", {"format": "bytes"}, "text/plain", b"text"),
    ],
)
def test_data_is_what_the_payload_is(payload: Any, options: Any, kind: str, data: Any) -> None:
    """JSON stands in the event as JSON, text as text, and bytes in base64."""
    event = structured(payload, **options)
    assert (event.get_datacontenttype(), event.get_data()) == (kind, data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), st.text(min_size=1).filter(str.strip))
def test_any_data_survives_both_modes(payload: dict[str, Any], kind: str) -> None:
    """Whatever the data and the type, both modes are read back as the same event."""
    assert structured(payload, event_type=kind).get_data() == payload
    message = delivery(payload, event_type=kind, **BINARY)
    headers = {**wire_headers(message, "ce-", quoted=True), "content-type": media_type(message)}
    event = http.from_binary(http.HTTPMessage(headers, body_of(message)), JSONFormat(), CloudEvent)
    assert (event.get_type(), event.get_data()) == (kind, payload)


def test_http_headers_are_ascii() -> None:
    """Quoted values hold printable ASCII only, and read back as they were."""
    message = delivery("x", event_subject='Grüße "42" 100%', **BINARY)
    headers = wire_headers(message, "ce-", quoted=True)
    assert headers["ce-subject"].isascii()
    assert not set(headers["ce-subject"]) & set(' "')
    read = http.from_binary(
        http.HTTPMessage({**headers, "content-type": "text/plain"}, b"x"), JSONFormat(), CloudEvent
    )
    assert read.get_subject() == 'Grüße "42" 100%'


def test_kafka_headers_carry_the_media_type() -> None:
    """Where the protocol has no place for the media type, a header of the handler's choice has it."""
    message = delivery({"a": 1}, headers={"trace": "t"}, **BINARY)
    headers = wire_headers(message, "ce_", content_type="content-type")
    assert headers["trace"] == "t"
    raw = {name: value.encode() for name, value in headers.items() if name != "trace"}
    event = kafka.from_binary(
        kafka.KafkaMessage(headers=raw, key=None, value=body_of(message)), JSONFormat(), CloudEvent
    )
    assert (event.get_id(), event.get_data()) == (message.id, {"a": 1})


@pytest.mark.parametrize("others", [{}, {"x": "y"}])
def test_rabbitmq_carries_an_event_in_binary_mode(others: dict[str, Any]) -> None:
    """The amqp handler's frames are an event, by the binding for RabbitMQ."""
    message = amqp_delivery({"a": 1}, headers=others, event_type="paid", **BINARY)
    header = header_of(b"".join(FrameEncoder().encode(message)))
    own = {name: value for name, value in header.headers.items() if name.startswith("ce-")}
    assert {name: value for name, value in header.headers.items() if name not in own} == others
    arrived = rabbitmq.RabbitMQMessage(own, header.content_type, b'{"a":1}')
    event = rabbitmq.from_binary(arrived, JSONFormat(), CloudEvent)
    assert (event.get_id(), event.get_type(), event.get_data()) == (header.message_id, "paid", {"a": 1})


def test_kafka_names_an_event_in_structured_mode() -> None:
    """The header of the media type tells a consumer of the binding that the value is an event."""
    message = delivery({"a": 1}, **STRUCTURED)
    headers = {
        name: text.encode()
        for name, text in wire_headers(message, "ce_", content_type="content-type").items()
    }
    record = kafka.KafkaMessage(headers=headers, key=None, value=message.body())
    assert kafka.from_kafka(record, JSONFormat(), CloudEvent).get_id() == message.id
    assert wire_headers(message, "ce-") == {}


def test_nats_keeps_the_type_of_the_data_apart() -> None:
    """There ``content-type`` says that a message is an event whole, so that of the data has another header."""
    names = {"content_type": "content-type", "data_type": "ce-datacontenttype", "quoted": True}
    whole = wire_headers(delivery({"a": 1}, **STRUCTURED), "ce-", **names)
    assert whole == {"content-type": "application/cloudevents+json"}
    apart = wire_headers(delivery({"a": 1}, event_subject="a b", **BINARY), "ce-", **names)
    assert (apart["ce-datacontenttype"], apart["ce-subject"]) == ("application/json", "a%20b")
    assert "content-type" not in apart


def test_rabbitmq_names_an_event_in_structured_mode() -> None:
    """The content type tells consumers that the body is an event."""
    header = header_of(b"".join(FrameEncoder().encode(amqp_delivery({"a": 1}, **STRUCTURED))))
    assert header.content_type == "application/cloudevents+json"
    assert header.headers is None


def test_a_redis_stream_carries_an_event_in_fields() -> None:
    """Attributes are fields beside the payload; other commands refuse what they cannot carry."""
    xadd = encoder_for(RedisOptions(command="xadd"), "orders")
    packed = xadd(delivery({"a": 1}, event_type="paid", **BINARY))
    assert b"ce_type\r\n$4\r\npaid" in packed
    assert b"content-type\r\n$16\r\napplication/json" in packed
    packed = xadd(delivery({"a": 1}, **STRUCTURED))
    assert b"content-type\r\n$28\r\napplication/cloudevents+json" in packed
    with pytest.raises(PermanentError, match="a CloudEvent is one"):
        encoder_for(RedisOptions(command="hset"), "orders")(delivery({"a": 1}, **STRUCTURED))


def test_an_event_is_embedded_whole() -> None:
    """A handler with JSON of its own embeds the event as an object."""
    line = json.loads(encode(embedded(delivery("x", **STRUCTURED))))
    assert (line["specversion"], line["data"]) == ("1.0", "x")


def test_what_cannot_be_written_is_named_in_the_payload() -> None:
    """The path leads into the payload, as without an event around it."""
    with pytest.raises(SerializationError) as caught:
        delivery({"lines": [1, object()]}, **STRUCTURED).body()
    assert caught.value.path == "$.lines[1]"


def test_data_that_is_not_what_it_is_called_is_fatal() -> None:
    """Text that is called JSON and is none cannot stand in the event."""
    with pytest.raises(SerializationError, match="not application/json"):
        delivery("plain", event_content_type="application/json", **STRUCTURED).body()


@pytest.mark.parametrize("make", [encode, as_object])
def test_a_payload_alone_is_no_event(make: Any) -> None:
    """Encoding a payload without its message raises instead of returning something that is not an event."""
    with pytest.raises(SerializationError, match="needs a message"):
        make({"a": 1}, serializer="cloudevents")


def test_clickhouse_rows_are_events() -> None:
    """A row is the event, whose id stands there already."""
    message = delivery({"a": 1}, **STRUCTURED)
    (row,) = rows_of(message, "id")
    assert json.loads(row)["id"] == message.id
    (row,) = rows_of(message, "message_id")
    assert json.loads(row)["message_id"] == message.id


def test_sql_columns_are_attributes(tmp_path: Path) -> None:
    """Columns are taken from the event as from any object, and the rest of it is JSON."""
    options = {
        "create_table": True,
        "columns": {"kind": "payload.type", "total": "payload.data.total"},
        "json_column": "rest",
        **STRUCTURED,
    }
    made = {"connections": {"one": {"url": f"sqlite:///{tmp_path}/events.db"}}}
    with Rambla({"sql": {**made, "channels": {"orders": {"options": options}}}}) as app:
        app.publish("orders", {"total": 7}, id="a", event_type="paid").result(timeout_s=20)
        app.publish_many("orders", [{"total": 8}, "text"]).result(timeout_s=20)
    with closing(sqlite3.connect(tmp_path / "events.db")) as database:
        rows = database.execute("SELECT id, kind, total, rest FROM orders").fetchall()
    assert (rows[0][:2], float(rows[0][2])) == (("a", "paid"), 7.0)
    assert json.loads(rows[0][3])["specversion"] == "1.0"
    assert [row[1] for row in rows[1:]] == ["orders", "orders"]


def test_records_of_a_state_are_no_events(tmp_path: Path) -> None:
    """A handler that writes each value by itself says that an event is whole."""
    made = {"connections": {"one": {"url": "memory://"}}, "channels": {"orders": {"options": STRUCTURED}}}
    with Rambla({"state": made}) as app:
        outcome = app.publish("orders", {"a": 1}).outcomes(timeout_s=20)[0]
    assert outcome.status == "fatal"
    assert "a CloudEvent is one" in str(outcome.error)


def table(handler: str, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "svc": {"handler": handler, "connections": {"here": {}}, "channels": {"orders": {"options": options}}}
    }


def test_a_channel_without_headers_refuses_binary_mode() -> None:
    """The configuration names the option and what to use; a message is refused alike."""
    with pytest.raises(
        ConfigError, match=r"svc\.channels\.orders\.options\.serializer: expected 'cloudevents'"
    ):
        load_config(table("redis", {"command": "rpush", **BINARY}))
    with (
        Rambla(table("console", {})) as app,
        pytest.raises(OptionError, match="cannot send with these options"),
    ):
        app.publish("orders", "x", **BINARY)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"event_source": "two words"}, "event_source"),
        ({"event_source": ""}, "event_source"),
        ({"event_type": ""}, "event_type"),
        ({"event_schema": "relative"}, "event_schema"),
        ({"event_extensions": {"Not-a-name": "x"}}, "no name of an extension"),
        ({"event_extensions": {"id": "x"}}, "set otherwise"),
        ({"event_extensions": {"a": 1.5}}, "event_extensions"),
    ],
)
def test_wrong_attributes_are_refused(options: dict[str, Any], expected: str) -> None:
    """What the specification does not allow is refused in the configuration and by publish."""
    with pytest.raises(ConfigError, match=expected):
        load_config(table("memory", options))
    with Rambla(table("memory", {})) as app, pytest.raises(OptionError, match=expected):
        app.publish("orders", "x", **options)


def test_extensions_of_channel_and_message_arrive() -> None:
    """Those of a message stand in place of its channel's, and what a policy holds can be a key."""
    options = {**STRUCTURED, "event_extensions": {"tenant": "blue"}}
    services = table("memory", options)
    services["svc"]["connections"]["here"]["name"] = "extended"
    with Rambla(services) as app:
        app.publish("orders", 1).result(timeout_s=5)
        app.publish("orders", 2, event_extensions={"region": "north"}).result(timeout_s=5)
        assert hash(app.config.services["svc"].channels["orders"].policy)
    first, second = [record.payload for record in memory.store("extended").messages()]
    memory.forget("extended")
    assert (first["tenant"], second["region"], "tenant" in second) == ("blue", "north", False)


def test_a_fan_out_is_one_event() -> None:
    """The targets of one publish get the same source and id, which are an event's identity."""
    services = {**table("memory", STRUCTURED), "two": table("memory", STRUCTURED)["svc"]}
    for name, service in services.items():
        services[name] = {**service, "connections": {"here": {"name": f"events-{name}"}}}
    with Rambla(services) as app:
        app.publish("orders", {"a": 1}).result(timeout_s=5)
    seen = [memory.store(f"events-{name}").messages()[0].payload for name in services]
    for name in services:
        memory.forget(f"events-{name}")
    assert seen[0]["id"] == seen[1]["id"]
    assert seen[0]["source"] == seen[1]["source"] == "/orders"
