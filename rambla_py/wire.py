"""This module gives a message its form on the wire: body, headers, media type, or a value inside JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rambla_py.cloudevent import (
    BINARY,
    CONTENT_TYPE,
    EVENTS,
    STRUCTURED,
    attribute_headers,
    data_type_of,
    event_of,
)
from rambla_py.encoding import as_object, content_type_of, encode, to_json

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["body_of", "embedded", "media_type", "wire_headers"]


def body_of(delivery: Delivery) -> bytes:
    """Return the bytes of a message, by its ``format`` and ``serializer``; ``Delivery.body`` keeps them.

    Raises ``SerializationError``.
    """
    policy = delivery.policy
    if policy.serializer not in EVENTS:
        return encode(delivery.payload, format=policy.format, serializer=policy.serializer)
    if policy.serializer == STRUCTURED:
        return to_json(event_of(delivery, checked=True))
    return encode(delivery.payload, format=policy.format)


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


def embedded(delivery: Delivery) -> Any:
    """Return the value that a handler embeds in JSON of its own: a line of a file, a row, one of many.

    It is what ``as_object`` makes of the payload; an event whole, where the serializer writes CloudEvents.
    Raises ``SerializationError``.
    """
    policy = delivery.policy
    if policy.serializer in EVENTS:
        return event_of(delivery)
    return as_object(delivery.payload, format=policy.format, serializer=policy.serializer)
