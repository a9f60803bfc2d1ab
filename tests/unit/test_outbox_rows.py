"""Rows of deliveries: what is stored of a message, what is refused, what comes back."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import uuid
from typing import Any, ClassVar

import msgspec
import pytest
from config_handlers import load, service
from deliveries import make_delivery

from rambla_py import Handler, OptionError, Secret, SerializationError
from rambla_py.config.options import merge_message
from rambla_py.config.schema import ChannelConfig
from rambla_py.handler import Takes
from rambla_py.outbox.row_of import body_of_row, decoded, row_of
from rambla_py.outbox.rows import Row
from rambla_py.runtime.target.drafts import is_called
from rambla_py.serialization.wire_format import encoder_for


class ObjectHandler(Handler):
    takes: ClassVar[Takes] = "object"

    class Options(msgspec.Struct):
        table: str = "events"
        token: Secret | None = None
        tags: Any = None

    def handle_publish(self, message: Any, options: Any, state: Any) -> None: ...


class BytesHandler(ObjectHandler):
    takes: ClassVar[Takes] = "bytes"


class JsonHandler(ObjectHandler):
    takes: ClassVar[Takes] = "json"


def shout(payload: Any) -> bytes:
    return str(payload).upper().encode()


def channel(handler: type[Handler] = ObjectHandler, **options: Any) -> ChannelConfig:
    config = load(rows=service(handler, options=options))
    return config.services["rows"].channels["orders"]


def row(payload: Any, config: ChannelConfig | None = None, now: float = 1_000.0, **given: Any) -> Row:
    config = config or channel()
    merged = merge_message(config, given)
    encode = encoder_for(config.handler.takes_for(merged.options), merged.policy)
    calls = is_called(payload)
    delivery = make_delivery(
        payload,
        policy=merged.policy,
        options=merged.options,
        headers=merged.headers,
        key=merged.key,
        given_id=merged.id,
        calls=calls,
        encoded=None if encode is None or calls else encode(payload),
    )
    return row_of(config, delivery, given, now)


@dataclasses.dataclass
class Order:
    id: int
    at: datetime.date


VALUES = [
    None,
    "text",
    b"\x00raw",
    {"id": 42, "price": decimal.Decimal("1.10"), "at": datetime.date(2026, 1, 2)},
    [uuid.UUID(int=7), 1 << 90, datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), 0.5],
]


@pytest.mark.parametrize("payload", VALUES, ids=lambda value: type(value).__name__)
def test_an_object_comes_back_with_its_types(payload: Any) -> None:
    """A handler that takes objects gets dates, decimals and big integers after a restart, too."""
    stored = row(payload)
    assert stored.form == "value"
    assert decoded(stored) == payload
    assert stored.sound


def test_a_dataclass_becomes_a_dict() -> None:
    """It is stored by its fields."""
    assert decoded(row(Order(42, datetime.date(2026, 1, 2)))) == {"id": 42, "at": datetime.date(2026, 1, 2)}


@pytest.mark.parametrize(
    ("payload", "options", "form", "body", "back"),
    [
        ("é", {}, "text", "é".encode(), "é"),
        (b"\xff", {}, "bytes", b"\xff", b"\xff"),
        (bytearray(b"a"), {}, "bytes", b"a", b"a"),
        ({"id": 1}, {}, "json", b'{"id":1}', {"id": 1}),
        ({"id": 1}, {"serializer": "msgpack"}, "msgpack", b"\x81\xa2id\x01", {"id": 1}),
        ('{"id": 1}', {"format": "object"}, "json", b'{"id": 1}', {"id": 1}),
        ({"id": 1}, {"serializer": f"{__name__}:shout"}, "custom", b"{'ID': 1}", b"{'ID': 1}"),
    ],
)
def test_bytes_for_the_wire_are_stored(
    payload: Any, options: dict[str, Any], form: str, body: bytes, back: Any
) -> None:
    """The row of a handler that takes bytes has them, and what they were made by."""
    config = channel(BytesHandler, **options)
    stored = row(payload, config)
    assert (stored.form, stored.payload, decoded(stored)) == (form, body, back)
    assert body_of_row(stored, back, "bytes", config.policy) == body


def test_a_string_inside_json_stays_a_string() -> None:
    """A handler that takes JSON has the string as JSON, and reads a string."""
    config = channel(JsonHandler)
    stored = row("two\nlines", config)
    assert (stored.form, stored.payload, decoded(stored)) == ("json", b'"two\\nlines"', "two\nlines")


def test_a_row_of_another_encoding_is_encoded_again() -> None:
    """Bytes that the present configuration would not make are not used, for their media type would lie."""
    stored = row({"id": 1}, channel(BytesHandler))
    after = channel(BytesHandler, serializer="msgpack")
    assert body_of_row(stored, decoded(stored), "bytes", after.policy) is None
    text = row("a", channel(JsonHandler))
    assert body_of_row(text, decoded(text), "bytes", channel(BytesHandler).policy) is None


def test_events_are_stored_as_their_data() -> None:
    """A CloudEvent is made at the attempt; the row has the data, also for a handler that takes bytes."""
    stored = row({"id": 1}, channel(BytesHandler, serializer="cloudevents"))
    assert (stored.form, decoded(stored)) == ("value", {"id": 1})


def test_only_given_options_are_stored() -> None:
    """Those of the channel are read again at each start; id and key have columns."""
    stored = row("a", channel(table="orders", retries=2), id="m-1", key="k", headers={"a": 1}, retries=7)
    assert stored.given() == {"id": "m-1", "key": "k", "headers": {"a": 1}, "retries": 7}
    assert (stored.id, stored.key, stored.given_id) == ("m-1", "k", True)
    assert row("a").options is None
    assert row("a").given_id is False


def test_a_delay_becomes_a_due_time() -> None:
    """It is on the wall clock, beside the wait that was asked for."""
    stored = row("a", now=1_000.0, delay_s=30)
    assert (stored.accepted, stored.due, stored.wait_s) == (1_000.0, 1_030.0, 30.0)
    assert row("a").due is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"callbacks": {"on_success": print}}, "a function cannot be stored; set callbacks on the channel"),
        ({"serializer": f"{__name__}:shout"}, "a function cannot be stored; set the serializer"),
        ({"token": Secret("hunter2")}, "a secret is not stored"),
        ({"tags": {"a", "b"}}, "cannot be stored: at $: a value of type 'set'"),
        ({"tags": [Secret("hunter2")]}, "cannot be stored: at $[0]: a value of type 'Secret'"),
        ({"id": "é" * 128}, "an id has at most 255 bytes on a durable channel; got 256"),
        ({"id": "a\0"}, "contains NUL"),
        ({"key": "a\0"}, "contains NUL"),
    ],
)
def test_what_cannot_be_stored_of_options_is_refused(given: dict[str, Any], words: str) -> None:
    """Each option is named, with what to do; no secret is quoted."""
    with pytest.raises(OptionError) as caught:
        row("a", **given)
    assert words in str(caught.value)
    assert caught.value.option in given
    assert "hunter2" not in str(caught.value)


def test_what_cannot_be_stored_of_payloads_is_refused_with_its_path() -> None:
    """A set, an open file, a function."""
    with pytest.raises(SerializationError) as caught:
        row({"tags": [{1, 2}]})
    assert caught.value.path == "$.tags[0]"
    with open(__file__) as file, pytest.raises(SerializationError) as caught:
        row({"file": file})
    assert caught.value.path == "$.file"
    with pytest.raises(SerializationError, match="a callable"):
        row(lambda: "a")


@pytest.mark.parametrize("form", ["value", "text", "json", "msgpack", "other"])
def test_a_damaged_payload_is_a_value_error(form: Any) -> None:
    """Whatever its form says."""
    damaged = Row(target="a.b", id="1", key=None, accepted=0.0, payload=b"\xc1\xff", form=form)
    with pytest.raises(ValueError, match=r"not a|unknown form"):
        decoded(damaged)
