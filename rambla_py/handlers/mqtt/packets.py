"""This module makes the properties of a PUBLISH packet of MQTT 5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from rambla_py.errors import PermanentError
from rambla_py.handlers._headers import text_of
from rambla_py.wire import media_type, wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "packet_size", "properties_of"]

EVENT_PREFIX: Final = ""
_MAX_TEXT_BYTES = 65_535
_MAX_HEAD = 5
"""Bytes of the fixed header at most: one for the type, four for the length."""


def properties_of(delivery: Delivery) -> Properties:
    """Return what goes beside topic and payload: headers and id as user properties, expiry, content type.

    Raises ``PermanentError`` for a header that a user property cannot hold.
    """
    options = delivery.options
    made: Any = Properties(PacketTypes.PUBLISH)
    headers = wire_headers(delivery, EVENT_PREFIX)
    pairs = [(_checked(name, name), _checked(name, text_of(name, value))) for name, value in headers.items()]
    if options.id_property and options.id_property not in headers:  # an event has it among its attributes
        pairs.append((options.id_property, _checked(options.id_property, delivery.id)))
    if pairs:
        made.UserProperty = pairs
    if options.message_expiry_s is not None:
        made.MessageExpiryInterval = options.message_expiry_s
    made.ContentType = options.content_type or media_type(delivery)
    if options.response_topic is not None:
        made.ResponseTopic = options.response_topic
    return made  # type: ignore[no-any-return]  # Any, for the attributes that paho makes of names


def packet_size(topic: bytes, properties: Properties, body_bytes: int) -> int:
    """Return an upper bound of the packet's size on the wire, in bytes."""
    packed: bytes = properties.pack()
    return _MAX_HEAD + 2 + len(topic) + 2 + len(packed) + body_bytes


def _checked(name: str, text: str) -> str:
    """Return a text that MQTT can hold: brokers close the connection over any other."""
    if "\x00" in text or "\ufeff" in text:
        raise PermanentError(f"header {name!r}: MQTT holds no text with NUL or a byte order mark")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PermanentError(f"header {name!r}: {error}") from error
    if size > _MAX_TEXT_BYTES:
        raise PermanentError(f"header {name!r}: has {size} bytes; MQTT holds {_MAX_TEXT_BYTES}")
    return text
