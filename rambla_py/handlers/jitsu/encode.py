"""Messages as Jitsu's events, and many events as one request."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec

from rambla_py._internal.wall_clock import time_of_day
from rambla_py.errors import PermanentError
from rambla_py.handlers._http.compression import compressed
from rambla_py.handlers._http.exchange import Request
from rambla_py.handlers._http.groups import wrapped
from rambla_py.handlers.jitsu.settings import JitsuOptions, JitsuSettings
from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.wire_format import embedded

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EventEncoder", "event_name", "message_id"]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NAME_BYTES = 64
_REFUSED_IN_NAMES = re.compile(r"--|;|=|/\*")
_PLACED = frozenset({"id", "event", "timestamp", "user_id", "context", "properties"})
"""Keys of a payload that have a place of their own in an event."""
_START = b'{"batch":['


class EventEncoder:
    """Makes the events and requests of one connection. Thread-safe."""

    def __init__(self, settings: JitsuSettings, options: JitsuOptions) -> None:
        self._options, self._target = options, settings.target()
        self._headers = (
            ("content-type", "application/json"),
            ("x-write-key", settings.write_key.reveal()),
        )
        self._health = Request("GET", settings.health_target(), (), b"", settings.connect_timeout_s)
        library = to_json({"name": "rambla-py", "version": metadata.version("rambla-py")})
        self._library = b'],"context":{"library":%b},"sentAt":' % library
        self.around = len(_START) + len(self._end(dt.datetime.now(dt.UTC)))

    def event(self, delivery: Delivery) -> bytes:
        """Return a message as an event; raises ``PermanentError`` or ``SerializationError``."""
        record = _record(delivery)
        name = record.get("event")
        if not isinstance(name, str) or not name:
            raise PermanentError("the payload has no name of an event in 'event'; expected a string")
        return to_json(_event(record, name, delivery), nan=delivery.policy.nan)

    def batch(self, events: Sequence[bytes]) -> Request:
        """Return the request with these events."""
        body = wrapped(events, b",", _START, self._end(dt.datetime.now(dt.UTC)))
        headers: Sequence[tuple[str, str]] = self._headers
        if self._options.compression != "none" and len(body) >= self._options.compress_above:
            body = compressed(body, self._options.compression)
            headers = (*headers, ("content-encoding", self._options.compression))
        return Request("POST", self._target, headers, body, self._options.timeout_s)

    def empty(self) -> Request:
        """Return a request without events, which the server answers as it does any other."""
        body = _START + self._end(dt.datetime.now(dt.UTC))
        return Request("POST", self._target, self._headers, body, self._options.timeout_s)

    def health(self) -> Request:
        """Return the request that tests whether the server works."""
        return self._health

    def _end(self, now: dt.datetime) -> bytes:
        return b'%b"%b"}' % (self._library, _iso(now).encode())


def event_name(name: str) -> str:
    """Return a name that Jitsu accepts: at most 64 bytes, and without what it takes for an injection.

    >>> event_name("a=1; drop--"), len(event_name("x" * 99))
    ('a_1_ drop_', 64)
    """
    return _REFUSED_IN_NAMES.sub("_", name).encode()[:_NAME_BYTES].decode(errors="ignore")


def message_id(given: str) -> str:
    """Return an id that Jitsu keeps: it replaces others, which would end the removal of duplicates.

    >>> message_id("order-42"), message_id("order 42")
    ('order-42', '59096d5ad4f7817da522986575e827c4ce75eee9')
    """
    if _ID.fullmatch(given):
        return given
    return hashlib.sha256(given.encode()).hexdigest()[:40]


def _record(delivery: Delivery) -> Mapping[str, Any]:
    """Return the payload as an object."""
    payload = delivery.payload
    if type(payload) is dict and delivery.policy.serializer == "json":
        return payload
    value = embedded(delivery)
    if not isinstance(value, dict):
        text = value if isinstance(value, str) else to_json(value, nan=delivery.policy.nan)
        try:
            value = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            value = None
    if not isinstance(value, dict):
        raise PermanentError("the payload is no event; expected an object, or a JSON string of one")
    return value


def _event(record: Mapping[str, Any], name: str, delivery: Delivery) -> dict[str, Any]:
    further, given_context = _object(record, "properties"), _object(record, "context")
    properties = {**further, **{key: value for key, value in record.items() if key not in _PLACED}}
    if record.get("id") not in (None, delivery.id):
        properties["id"] = record["id"]
    sent_name = event_name(name)
    if sent_name != name:
        properties["event_name"] = name
    context = dict(given_context)
    event = {
        "type": "track",
        "event": sent_name,
        "messageId": message_id(delivery.id),
        "timestamp": _timestamp(record.get("timestamp"), delivery),
        "properties": properties,
        "context": context,
    }
    _identify(event, record.get("user_id"))
    for key, source in (("ip", "ip_address"), ("userAgent", "user_agent")):
        if properties.get(source) is not None:
            context.setdefault(key, properties[source])
    if "table" in delivery.headers:
        context["table"] = delivery.headers["table"]
    return event


def _identify(event: dict[str, Any], user_id: Any) -> None:
    """Add the ids of the user that are known; one made up here would join all users into one."""
    properties, context = event["properties"], event["context"]
    if user_id is not None:
        event["userId"] = str(user_id)
    for place in (context, properties):
        anonymous = place.pop("anonymous_id", None)
        if anonymous is not None:
            event.setdefault("anonymousId", str(anonymous))


def _object(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object inside the payload; it may be written as JSON, as tables hold it."""
    value = record.get(name)
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            value = None
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise PermanentError(f"the payload has no object in {name!r}, but a {type(value).__name__}")
    return value


def _timestamp(given: Any, delivery: Delivery) -> str:
    """Return the time of the event, by default that of the call."""
    if isinstance(given, str) and given:
        return given
    if isinstance(given, dt.datetime):
        return _iso(given if given.tzinfo is not None else given.replace(tzinfo=dt.UTC))
    return _iso(time_of_day(delivery.accepted_at))


def _iso(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
