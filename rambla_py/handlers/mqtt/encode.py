"""Topics and properties of MQTT 5 messages."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from rambla_py.errors import PermanentError
from rambla_py.handlers._encoding import checked_utf8
from rambla_py.handlers._headers import text_of
from rambla_py.serialization.wire_format import media_type, wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "checked_topic", "packet_size", "properties_of"]

EVENT_PREFIX: Final = ""
_MAX_TEXT_BYTES = 65_535
# Characters that MQTT 5 (1.5.4) advises against: Mosquitto closes the connection over them.
_LAST_OF_PLANES = "".join(chr(plane + 0xFFFE) + chr(plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000))
_FORBIDDEN = re.compile(f"[\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufeff{_LAST_OF_PLANES}]")
_WILDCARDS = re.compile("[+#]")
_MAX_HEAD = 5
"""The largest fixed header in bytes: one for the type, four for the length."""


def properties_of(delivery: Delivery) -> Properties:
    """Return the properties of a message: headers and id as user properties, expiry, content type.

    Raises ``PermanentError`` for a string that MQTT cannot hold.
    """
    options = delivery.options
    made: Any = Properties(PacketTypes.PUBLISH)
    headers = wire_headers(delivery, EVENT_PREFIX)
    pairs = [
        (_checked(name, "header", name), _checked(text_of(name, value), "header", name))
        for name, value in headers.items()
    ]
    if options.id_property and options.id_property not in headers:  # an event has it as an attribute
        name = _checked(options.id_property, "id_property", options.id_property)
        pairs.append((name, _checked(delivery.id, "header", name)))
    if pairs:
        made.UserProperty = pairs
    if options.message_expiry_s is not None:
        made.MessageExpiryInterval = options.message_expiry_s
    given = options.content_type
    made.ContentType = _checked(given, "content_type", given) if given else media_type(delivery)
    if options.response_topic is not None:
        made.ResponseTopic = _checked(options.response_topic, "response_topic", options.response_topic)
    return made  # type: ignore[no-any-return]  # Any, as paho creates the attributes at run time


def packet_size(topic: bytes, properties: Properties, body_bytes: int) -> int:
    """Return an upper bound of the packet's size on the wire, in bytes."""
    packed: bytes = properties.pack()
    return _MAX_HEAD + 2 + len(topic) + 2 + len(packed) + body_bytes


@functools.lru_cache(maxsize=256)
def checked_topic(topic: str) -> bytes:
    """Return a topic to publish to as UTF-8; raises ``PermanentError`` for one with wildcards.

    >>> checked_topic("plant/boiler")
    b'plant/boiler'
    """
    if _WILDCARDS.search(topic):
        raise PermanentError(f"topic {topic!r}: wildcards cannot be published to; set the option 'topic'")
    return _checked(topic, "topic", topic).encode()


def _checked(text: str, what: str, name: str) -> str:
    """Return a string that MQTT can hold; brokers close the connection over any other."""
    found = _FORBIDDEN.search(text)
    if found:
        raise PermanentError(
            f"{what} {name!r}: MQTT does not allow {found[0]!r}, a control character or non-character"
        )
    size = len(checked_utf8(text, what))
    if size > _MAX_TEXT_BYTES:
        raise PermanentError(f"{what} {name!r}: has {size} bytes; MQTT allows {_MAX_TEXT_BYTES}")
    return text
