"""The form of a message on the wire: body, headers, media type, or a value inside JSON."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rambla_py.serialization.cloudevents import (
    BINARY,
    CONTENT_TYPE,
    EVENTS,
    STRUCTURED,
    attribute_headers,
    data_type_of,
    event_of,
)
from rambla_py.serialization.encoding import (
    as_object,
    content_type_of,
    dict_encoder,
    encode,
    to_json,
    usual_encoder,
)
from rambla_py.serialization.table_json import to_table_json

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Takes
    from rambla_py.policy import Policy
    from rambla_py.serialization.encoding import Format, Nan

__all__ = ["ENCODED", "body_of", "embedded", "encoder_for", "media_type", "wire_headers"]

ENCODED: Final = frozenset({"bytes", "json", "table"})
"""What a handler may take that ``publish`` encodes."""


def encoder_for(takes: Takes, policy: Policy) -> Callable[[Any], bytes] | None:
    """Return the function that makes a payload a body, the same one for the same encoding.

    None where there is none: the handler takes no bytes, or the serializer needs the whole message.
    """
    if takes not in ENCODED or policy.serializer in EVENTS:
        return None
    return _encoder(takes, policy.format, policy.serializer, policy.nan)


@functools.lru_cache(maxsize=256)
def _encoder(takes: Takes, format: Format, serializer: str, nan: Nan) -> Callable[[Any], bytes]:  # noqa: A002
    if takes == "bytes":
        slow = functools.partial(encode, format=format, serializer=serializer, nan=nan)
        return slow if format == "object" or serializer != "json" else usual_encoder(nan, slow)

    if takes == "table":
        return functools.partial(_table_body, format=format, serializer=serializer, nan=nan)

    def embed(payload: Any) -> bytes:
        return to_json(as_object(payload, format=format, serializer=serializer, written=True), nan=nan)

    return dict_encoder(nan, embed) if serializer == "json" and format != "bytes" else embed


def _table_body(payload: Any, *, format: Format, serializer: str, nan: Nan) -> bytes:  # noqa: A002
    value = as_object(payload, format=format, serializer=serializer, written=True)
    return to_table_json(value, nan=nan)


def body_of(delivery: Delivery, takes: Takes = "bytes") -> bytes:
    """Return the bytes of a message, by its ``format`` and ``serializer``; ``Delivery.body`` keeps them.

    With ``takes="json"`` they are JSON always, the value that ``embedded`` returns; with ``takes="table"``
    JSON as ``to_table_json`` writes it. Raises ``SerializationError``.
    """
    policy = delivery.policy
    if takes == "table":
        return to_table_json(embedded(delivery, written=policy.serializer not in EVENTS), nan=policy.nan)
    if takes == "json":
        return to_json(embedded(delivery, written=True), nan=policy.nan)
    if policy.serializer == STRUCTURED:
        return to_json(event_of(delivery, checked=True), nan="null")
    serializer = "json" if policy.serializer in EVENTS else policy.serializer
    return encode(delivery.payload, format=policy.format, serializer=serializer, nan=policy.nan)


def wire_headers(
    delivery: Delivery,
    prefix: str,
    *,
    content_type: str | None = None,
    data_type: str | None = None,
    quoted: bool = False,
) -> dict[str, Any]:
    """Return the headers that go with a message; a CloudEvent in binary mode has its attributes among them.

    A handler whose backend has headers calls it in place of ``delivery.headers``. ``prefix`` goes before the
    name of an attribute: ``ce-`` in HTTP, RabbitMQ and NATS, ``ce_`` in Kafka, none in MQTT; the handler's
    ``event_prefix`` says the same. ``content_type`` names the header of an event's media type, of the data or
    of the whole, where the protocol has no place of its own for it (``data_type`` that of the data, where it
    is another one, as in NATS); ``quoted`` percent-encodes, as the bindings of HTTP and NATS have it.
    Attributes win over headers of the same name.
    """
    serializer = delivery.policy.serializer
    if serializer == BINARY:
        return attribute_headers(delivery, prefix, content_type=data_type or content_type, quoted=quoted)
    if serializer == STRUCTURED and content_type is not None:
        return {**delivery.headers, content_type: CONTENT_TYPE}
    return delivery.headers


def media_type(delivery: Delivery) -> str:
    """Return the media type of what ``body`` gives; the same for all messages with this type and policy."""
    policy = delivery.policy
    if policy.serializer == STRUCTURED:
        return CONTENT_TYPE
    if policy.serializer == BINARY:
        return data_type_of(delivery)
    return content_type_of(type(delivery.payload), format=policy.format, serializer=policy.serializer)


def embedded(delivery: Delivery, *, written: bool = False) -> Any:
    """Return the value that a handler embeds in JSON of its own: a line of a file, a row, one of many.

    It is what ``as_object`` makes of the payload; an event whole, where the serializer writes CloudEvents.
    With ``written`` JSON text in it is a ``msgspec.Raw``. Raises ``SerializationError``.
    """
    policy = delivery.policy
    if policy.serializer in EVENTS:
        return event_of(delivery, checked=written)
    return as_object(delivery.payload, format=policy.format, serializer=policy.serializer, written=written)
