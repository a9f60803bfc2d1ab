"""Messages as CloudEvents 1.0: one JSON document, or headers beside the data."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import msgspec

from rambla_py._internal.wall_clock import time_of_day
from rambla_py.errors import SerializationError
from rambla_py.serialization.encoding import as_object, content_type_of, encode, to_json
from rambla_py.serialization.json_numbers import read_json, written_json

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = [
    "BINARY",
    "CONTENT_TYPE",
    "EVENTS",
    "STRUCTURED",
    "attribute_headers",
    "check_extensions",
    "data_type_of",
    "event_of",
]

STRUCTURED: Final = "cloudevents"
BINARY: Final = "cloudevents-binary"
EVENTS: Final = frozenset({STRUCTURED, BINARY})
CONTENT_TYPE: Final = "application/cloudevents+json"

_OWN = frozenset(
    {"specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype"}
    | {"data", "data_base64", "partitionkey"}
)
# Extension attributes of the specification: the trace of the message, from its headers.
_TRACING: Final = ("traceparent", "tracestate")
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
_JSON = re.compile(r"[^;/]+/(?:[^;]+\+)?json\s*(?:;.*)?", re.IGNORECASE)
_BINARY_KINDS = (bytes, bytearray, memoryview)
# What HTTP headers hold as they are, by the binding's rule: printable ASCII but for space, " and %.
_HTTP_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')


def event_of(delivery: Delivery, *, checked: bool = False) -> dict[str, Any]:
    """Return the event of a message as an object for JSON: the attributes, and ``data`` or ``data_base64``.

    Text is data as text, and bytes are ``data_base64``, unless ``event_content_type`` calls them JSON: then
    they are read as that. ``format`` is applied first. With ``checked`` the data is JSON already. Raises
    ``SerializationError``, whose path leads into the payload.
    """
    policy = delivery.policy
    event = _attributes(delivery)
    event["datacontenttype"] = data_type_of(delivery)
    payload = delivery.payload
    if policy.format == "object":
        payload = as_object(payload, format="object", written=checked)
    elif policy.format == "bytes":
        payload = encode(payload, nan=policy.nan)
    if isinstance(payload, _BINARY_KINDS) and not _is_json(event["datacontenttype"]):
        event["data_base64"] = b64encode(encode(payload)).decode()
        return event
    data = _data(payload, event["datacontenttype"], written=checked)
    event["data"] = msgspec.Raw(to_json(data, nan=policy.nan)) if checked else data
    return event


def attribute_headers(
    delivery: Delivery, prefix: str, *, content_type: str | None = None, quoted: bool = False
) -> dict[str, Any]:
    """Return the message's headers with the attributes among them, as ``wire.wire_headers`` says."""
    texts = {f"{prefix}{name}": _text(value, quoted) for name, value in _attributes(delivery).items()}
    if content_type is not None:
        texts[content_type] = data_type_of(delivery)
    return {**delivery.headers, **texts}


def data_type_of(delivery: Delivery) -> str:
    """Return the media type of a message's data: the one given, or what its payload is on the wire."""
    policy = delivery.policy
    if policy.event_content_type is not None:
        return policy.event_content_type
    return content_type_of(type(delivery.payload), format=policy.format)


def check_extensions(extensions: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Return extension attributes as a policy holds them; raises ``ValueError`` for a forbidden name.

    >>> check_extensions({"tenant": "blue"})
    (('tenant', 'blue'),)
    """
    for name in extensions:
        if not _EXTENSION.fullmatch(name):
            raise ValueError(f"{name!r} is no name of an extension: 1 to 20 of a-z and 0-9")
        if name in _OWN:
            raise ValueError(f"{name!r} is an attribute that is set otherwise")
    return tuple(extensions.items())


def _attributes(delivery: Delivery) -> dict[str, Any]:
    policy = delivery.policy
    channel = delivery.channel
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": delivery.id,
        "source": policy.event_source or f"/{quote(channel)}",
        "type": policy.event_type or channel,
        "time": _accepted_at(delivery),
        "subject": policy.event_subject,
        "dataschema": policy.event_schema,
        "partitionkey": delivery.key or None,
        **{name: delivery.headers[name] for name in _TRACING if name in delivery.headers},
        **dict(policy.event_extensions),
    }
    return {name: value for name, value in found.items() if value is not None}


def _accepted_at(delivery: Delivery) -> str:
    """Return the time of the publish, by the millisecond."""
    moment = time_of_day(delivery.accepted_at or time.monotonic())
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _data(payload: Any, media_type: str, *, written: bool) -> Any:
    if not isinstance(payload, (str, *_BINARY_KINDS)) or not _is_json(media_type):
        return payload
    try:
        text = encode(payload).decode()
        return written_json(text) if written else read_json(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SerializationError("$", f"data that is not {media_type}, as event_content_type says") from error


def _is_json(media_type: str) -> bool:
    return _JSON.fullmatch(media_type) is not None


def _text(value: Any, quoted: bool) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quote(text, safe=_HTTP_SAFE) if quoted else text
