"""The frames that the amqp handler encodes: the same bytes as pika's, and what AMQP cannot hold."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from amqp_deliveries import Notes, amqp_delivery, amqp_options
from amqp_wire import Wire, header_of
from hypothesis import given
from hypothesis import strategies as st
from pika import data, spec

from rambla_py.delivery import Delivery
from rambla_py.errors import PayloadTooLargeError, PermanentError, SerializationError
from rambla_py.handlers.amqp.encode import LARGE_BYTES, FrameEncoder, SizeLimit
from rambla_py.handlers.amqp.properties import table
from rambla_py.handlers.amqp.settings import AmqpOptions, Properties, default_key

FRAME_MAX = 4_096
_names = st.text(max_size=60)
_integers = st.integers(-(2**63), 2**63 - 1)
_times = st.datetimes(datetime(1970, 1, 2), datetime(2500, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    _integers,
    st.text(max_size=20),
    st.binary(max_size=20),
    st.decimals(min_value=-1000, max_value=1000, places=2),
    _times,
)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
_headers = st.dictionaries(st.text(max_size=20), _values, max_size=4)
_properties = st.builds(
    Properties,
    content_type=st.none() | _names,
    content_encoding=st.none() | _names,
    correlation_id=st.none() | _names,
    reply_to=st.none() | _names,
    expiration=st.none() | st.integers(0, 10**9),
    type=st.none() | _names,
    user_id=st.none() | _names,
    app_id=st.none() | _names,
    timestamp=st.none() | st.integers(0, 2**64 - 1),
    priority=st.none() | st.integers(0, 255),
    cluster_id=st.none() | _names,
    message_id=st.none() | st.text(min_size=1, max_size=60),
    delivery_mode=st.none() | st.sampled_from([1, 2]),
    headers=_headers,
)
_options = st.builds(
    AmqpOptions,
    exchange=_names,
    routing_key=_names,
    mandatory=st.booleans(),
    persistent=st.booleans(),
    properties=_properties,
)
_bodies = st.binary(max_size=64) | st.integers(1, 3).map(lambda count: b"x" * (count * (FRAME_MAX - 8)))


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    made = Wire(frame_max=FRAME_MAX)
    yield made
    made.close()


def encoded(*deliveries: Delivery, **limits: Any) -> bytes:
    encoder = FrameEncoder(**{"frame_max": FRAME_MAX, **limits})
    return b"".join(part for delivery in deliveries for part in encoder.encode(delivery))


def by_pika(wire: Wire, delivery: Delivery) -> bytes:
    """Publish the same message with pika's own means, and return the bytes."""
    options, given_ = delivery.options, delivery.options.properties
    properties = spec.BasicProperties(
        content_type="application/octet-stream" if given_.content_type is None else given_.content_type,
        content_encoding=given_.content_encoding,
        headers={**given_.headers, **delivery.headers} or None,
        delivery_mode=given_.delivery_mode or (2 if options.persistent else 1),
        priority=given_.priority,
        correlation_id=given_.correlation_id,
        reply_to=given_.reply_to,
        expiration=None if given_.expiration is None else str(given_.expiration),
        message_id=given_.message_id or delivery.id,
        timestamp=given_.timestamp,
        type=given_.type,
        user_id=given_.user_id,
        app_id=given_.app_id,
        cluster_id=given_.cluster_id,
    )
    publish = spec.Basic.Publish(
        exchange=options.exchange,
        routing_key=default_key(options, delivery.channel),
        mandatory=options.mandatory,
    )
    wire.transport.writes.clear()
    wire.connection._send_method(1, publish, (properties, delivery.body()))
    return wire.transport.written


@given(body=_bodies, options=_options, headers=_headers)
def test_frames_are_those_of_pika(
    wire: Wire, body: bytes, options: AmqpOptions, headers: dict[str, Any]
) -> None:
    """A message is byte for byte what pika itself would put on the wire."""
    delivery = amqp_delivery(body, options, headers=headers)
    assert encoded(delivery) == by_pika(wire, delivery)


@given(
    sent=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), _bodies, st.text(min_size=1, max_size=9)), max_size=8
    ),
    options=st.lists(_options, min_size=3, max_size=3),
    headers=st.lists(_headers, min_size=3, max_size=3),
)
def test_what_is_kept_fits_the_next_message(
    wire: Wire, sent: list[Any], options: list[AmqpOptions], headers: list[dict[str, Any]]
) -> None:
    """One encoder gives the right bytes for each of many messages, whatever came before it."""
    deliveries = [
        amqp_delivery(body, options[which], headers=headers[other], given_id=name)
        for which, other, body, name in sent
    ]
    assert encoded(*deliveries) == b"".join(by_pika(wire, delivery) for delivery in deliveries)


def test_bodies_of_one_size_differ() -> None:
    """Two messages of the same shape keep their own ids and bodies."""
    options = amqp_options(routing_key="jobs")
    frames = encoded(
        amqp_delivery(b"one", options, given_id="id-1"), amqp_delivery(b"two", options, given_id="id-2")
    )
    assert [frames.count(part) for part in (b"one", b"two", b"id-1", b"id-2")] == [1, 1, 1, 1]


def test_a_double_is_sent_as_one() -> None:
    """A float, which pika refuses, is a double of AMQP; inside arrays and tables too."""
    assert table("headers", {"x": 1.5}) == struct.pack(">IB1scd", 11, 1, b"x", b"d", 1.5)
    nested = table("headers", {"x": [1.5], "y": {"z": 1.5}})
    assert nested.count(struct.pack(">cd", b"d", 1.5)) == 2


def test_headers_of_the_message_win() -> None:
    """Headers of the message go over those of the properties, key by key."""
    options = amqp_options(properties={"headers": {"a": "channel", "b": "channel"}})
    header = header_of(encoded(amqp_delivery(options=options, headers={"b": "message"})))
    assert header.headers == {"a": "channel", "b": "message"}


@pytest.mark.parametrize(
    ("payload", "policy", "content_type"),
    [
        ({"id": 42}, {}, "application/json"),
        (42, {}, "application/json"),
        ("text", {}, "text/plain"),
        (b"bytes", {}, "application/octet-stream"),
        (bytearray(b"bytes"), {}, "application/octet-stream"),
        ({"id": 42}, {"serializer": "msgpack"}, "application/msgpack"),
        ({"id": 42}, {"serializer": "json:dumps"}, "application/octet-stream"),
        ("text", {"format": "object"}, "application/json"),
        (b"bytes", {"format": "object", "serializer": "json"}, "application/json"),
    ],
)
def test_content_type_follows_the_payload(payload: Any, policy: dict[str, Any], content_type: str) -> None:
    """The content type is that of what is on the wire."""
    assert header_of(encoded(amqp_delivery(payload, **policy))).content_type == content_type


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (({}, {}), ("text", {})),
        (({}, {}), ({}, {"serializer": "msgpack"})),
        (("text", {}), ("text", {"format": "object"})),
    ],
)
def test_content_type_is_chosen_for_each_message(first: Any, second: Any) -> None:
    """Messages of the same options, whose payload or serializer differ, have content types of their own."""
    options, encoder = amqp_options(), FrameEncoder()
    reported = [
        header_of(b"".join(encoder.encode(amqp_delivery(payload, options, **policy)))).content_type
        for payload, policy in (first, second, first)
    ]
    assert reported[0] == reported[2] != reported[1]


def test_a_message_is_persistent_by_default() -> None:
    """delivery_mode is 2, or 1 with ``persistent = false``."""
    modes = [
        header_of(encoded(amqp_delivery(options=amqp_options(**table_)))).delivery_mode
        for table_ in ({}, {"persistent": False}, {"persistent": False, "properties": {"delivery_mode": 2}})
    ]
    assert modes == [2, 1, 2]


def test_a_timestamp_may_be_a_time() -> None:
    """A datetime is sent as seconds since the epoch; without a zone it is taken as UTC."""
    aware, naive = datetime(2026, 11, 21, tzinfo=UTC), datetime(2026, 11, 21)
    seconds = [
        header_of(encoded(amqp_delivery(options=amqp_options(properties={"timestamp": moment})))).timestamp
        for moment in (aware, naive)
    ]
    assert seconds == [int(aware.timestamp())] * 2


def test_a_payload_over_the_limit_is_refused() -> None:
    """The error has size and limit; one byte less is taken."""
    assert encoded(amqp_delivery(b"x" * 10), limit=SizeLimit(10))
    with pytest.raises(PayloadTooLargeError) as caught:
        encoded(amqp_delivery(b"x" * 11), limit=SizeLimit(10))
    assert (caught.value.size, caught.value.limit) == (11, 10)


class Kind(StrEnum):
    PAID = "paid"


def deep_table(levels: int) -> dict[str, Any]:
    """Return a table in a table, as deep as that."""
    outer: dict[str, Any] = {}
    inner = outer
    for _ in range(levels):
        inner["x"] = inner = {}
    return outer


@pytest.mark.parametrize(
    ("delivery", "named"),
    [
        (amqp_delivery(options=AmqpOptions(routing_key="k" * 256)), "routing_key"),
        (amqp_delivery(options=AmqpOptions(routing_key="é" * 128)), "routing_key"),
        (amqp_delivery(options=AmqpOptions(exchange="e" * 256)), "exchange"),
        (amqp_delivery(given_id="i" * 256), "message_id"),
        (amqp_delivery(options=AmqpOptions(properties=Properties(reply_to="r" * 256))), "reply_to"),
        (amqp_delivery(options=AmqpOptions(properties=Properties(priority=256))), "priority"),
        (amqp_delivery(options=AmqpOptions(properties=Properties(timestamp=-1))), "timestamp"),
        (amqp_delivery(headers={"n" * 256: 1}), "headers: a name has 256 bytes"),
        (amqp_delivery(headers={"big": 2**63}), "headers['big']"),
        (amqp_delivery(headers={"what": [1, object()]}), "headers['what'][1]"),
        (amqp_delivery(headers={"ratio": math.nan}), "headers['ratio'] is NaN"),
        (amqp_delivery(headers={"ratio": [{"x": -math.inf}]}), "headers['ratio'][0]['x'] is NaN or infinite"),
        (amqp_delivery(headers={"ratio": Decimal("NaN")}), "headers['ratio']"),
        (amqp_delivery(headers={"ratio": Decimal("Infinity")}), "headers['ratio']"),
        (amqp_delivery(headers={"surrogate": "\ud800"}), "headers['surrogate']"),
        (amqp_delivery(headers={"deep": deep_table(5_000)}), "headers['deep'] is nested too deeply"),
        (amqp_delivery(headers={"CC": "copies"}), "headers['CC'] must be an array"),
        (amqp_delivery(headers={"BCC": ["a", 5]}), "headers['BCC'] must be an array"),
        (amqp_delivery(headers={"money": Decimal("12345678901.5")}), "headers['money']"),
        (amqp_delivery(headers={"much": "x" * FRAME_MAX}), "headers"),
    ],
)
def test_what_amqp_cannot_hold_is_named(delivery: Delivery, named: str) -> None:
    """A value that AMQP has no place for is a permanent error of its message, which names it."""
    with pytest.raises(PermanentError) as caught:
        encoded(delivery)
    assert named in str(caught.value)


def test_a_refused_message_leaves_no_trace() -> None:
    """After one that could not be encoded, the next of the same options is encoded right."""
    options, encoder = amqp_options(routing_key="jobs"), FrameEncoder()
    with pytest.raises(PermanentError):
        encoder.encode(amqp_delivery(options=options, headers={"what": object()}))
    later = amqp_delivery(options=options, headers={"what": "text"})
    assert header_of(b"".join(encoder.encode(later))).headers == {"what": "text"}


@given(values=_headers)
def test_tables_are_those_of_pika(values: dict[str, Any]) -> None:
    """A table has the bytes that pika gives it."""
    pieces: list[bytes] = []
    data.encode_table(pieces, values)
    assert table("headers", values) == b"".join(pieces)


def test_an_error_shows_no_value() -> None:
    """Headers and properties are data of the application: the error names them and quotes nothing."""
    for delivery in (
        amqp_delivery(headers={"card": ["canary-7f3a", object()]}),
        amqp_delivery(headers={"BCC": "canary-7f3a"}),
        amqp_delivery(options=AmqpOptions(properties=Properties(reply_to="canary-7f3a" * 30))),
    ):
        with pytest.raises(PermanentError) as caught:
            encoded(delivery)
        assert "canary" not in str(caught.value)


def test_values_like_strings_and_bytes_are_taken() -> None:
    """A string enumeration is a string, a bytearray is bytes."""
    headers = {
        "kind": Kind.PAID,
        "raw": bytearray(b"ab"),
        "none": None,
        "at": datetime(2026, 1, 2, tzinfo=UTC),
    }
    got = header_of(encoded(amqp_delivery(headers=headers))).headers
    assert got == {"kind": "paid", "raw": b"ab", "none": None, "at": datetime(2026, 1, 2, tzinfo=UTC)}


def test_a_user_id_must_be_that_of_the_connection() -> None:
    """RabbitMQ refuses another one; without a user to compare with, the broker decides."""
    mine, other = (
        amqp_delivery(options=AmqpOptions(properties=Properties(user_id=name))) for name in ("shop", "other")
    )
    assert encoded(mine, user="shop")
    assert encoded(other)
    with pytest.raises(PermanentError, match="user_id"):
        encoded(other, user="shop")


def test_a_large_body_is_a_batch_of_its_own() -> None:
    """Small neighbours stay together; what cannot be encoded fails for good, whatever the error."""
    notes = Notes()
    large = b"x" * (LARGE_BYTES + 1)
    made = [amqp_delivery(body, notes=notes) for body in (b"a", b"b", large, object(), b"c", b"d")]
    batches = FrameEncoder().batches(made)
    assert [(len(batch.deliveries), batch.largest) for batch in batches] == [(2, 0), (1, len(large)), (2, 0)]
    (answer,) = notes.answers.values()
    assert (type(answer), answer.retryable) == (SerializationError, False)


def test_an_error_of_a_serializer_is_permanent() -> None:
    """Whatever a serializer of the application raises, encoding again would raise it again."""
    notes = Notes()
    FrameEncoder().batches([amqp_delivery({}, notes=notes, serializer=f"{__name__}:broken")])
    (answer,) = notes.answers.values()
    assert (isinstance(answer, PermanentError), answer.retryable) == (True, False)
    assert "OSError: no disk" in str(answer)


def broken(payload: Any) -> bytes:
    raise OSError("no disk")


def test_what_must_be_alone_is_left_to_a_channel_of_its_own() -> None:
    """The shared channel's encoder does not encode it; another channel's does, with its number."""
    first, alone = amqp_delivery(b"a"), amqp_delivery(b"b")
    alone.attempts = 2
    alone.past().set_apart()
    made = FrameEncoder(shared=True).batches([first, alone])
    assert [(batch.alone, list(batch.deliveries)) for batch in made] == [(True, [alone]), (False, [first])]
    (batch,) = FrameEncoder(channel_number=7).batches([alone])
    assert not batch.alone
    assert bytes(batch.pieces[0])[1:3] == b"\x00\x07"
