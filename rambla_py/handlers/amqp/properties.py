"""The strings, tables and basic properties of AMQP 0-9-1, as bytes."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pika.data import encode_value as encode_scalar
from pika.exceptions import AMQPError

from rambla_py.errors import PermanentError
from rambla_py.handlers._headers import check_routing_headers
from rambla_py.handlers.amqp.settings import Properties

__all__ = ["ConstantProperties", "constant_properties", "header_table", "short_string", "table"]

HEADERS_FLAG = 1 << 13
MESSAGE_ID_FLAG = 1 << 7

_LONGEST = 255
_STRING, _BYTE, _TIME = "string", "byte", "time"

# Name, flag and kind, in the order of the wire; headers and message id vary by message.
_FIRST = (("content_type", 1 << 15, _STRING), ("content_encoding", 1 << 14, _STRING))
_SECOND = (
    ("delivery_mode", 1 << 12, _BYTE),
    ("priority", 1 << 11, _BYTE),
    ("correlation_id", 1 << 10, _STRING),
    ("reply_to", 1 << 9, _STRING),
    ("expiration", 1 << 8, _STRING),
)
_THIRD = (
    ("timestamp", 1 << 6, _TIME),
    ("type", 1 << 5, _STRING),
    ("user_id", 1 << 4, _STRING),
    ("app_id", 1 << 3, _STRING),
    ("cluster_id", 1 << 2, _STRING),
)


class ConstantProperties:
    """The part of a content header that does not vary by message, encoded.

    ``first`` goes before the headers, ``second`` between them and the message id, ``third`` after it;
    ``flags`` has the bits of the properties in them.
    """

    __slots__ = ("first", "flags", "second", "third")

    def __init__(self, first: bytes, second: bytes, third: bytes, flags: int) -> None:
        self.first, self.second, self.third, self.flags = first, second, third, flags


def constant_properties(properties: Properties, *, content_type: str, persistent: bool) -> ConstantProperties:
    r"""Encode the properties; ``content_type`` and ``persistent`` apply where these do not set their own.

    Raises ``PermanentError`` that names the property.

    >>> constant_properties(Properties(), content_type="text/plain", persistent=True).second
    b'\x02'
    """
    values = {name: getattr(properties, name) for name, _, _ in (*_FIRST, *_SECOND, *_THIRD)}
    if values["content_type"] is None:
        values["content_type"] = content_type
    if values["delivery_mode"] is None:
        values["delivery_mode"] = 2 if persistent else 1
    if isinstance(values["expiration"], int):
        values["expiration"] = str(values["expiration"])
    flags = sum(flag for name, flag, _ in (*_FIRST, *_SECOND, *_THIRD) if values[name] is not None)
    return ConstantProperties(_group(_FIRST, values), _group(_SECOND, values), _group(_THIRD, values), flags)


def short_string(what: str, text: str) -> bytes:
    r"""Encode a short string: its length in a byte, then UTF-8; raises ``PermanentError`` over 255 bytes.

    >>> short_string("routing_key", "paid")
    b'\x04paid'
    """
    try:
        encoded = text.encode()
    except (UnicodeEncodeError, AttributeError):
        raise PermanentError(f"{what} is not a string that UTF-8 can encode") from None
    if len(encoded) > _LONGEST:
        raise PermanentError(f"{what} has {len(encoded)} bytes; AMQP allows {_LONGEST}")
    return bytes((len(encoded),)) + encoded


def header_table(headers: Mapping[str, Any]) -> bytes:
    """Encode a message's headers; raises ``PermanentError`` for what cannot be encoded or is refused.

    >>> len(header_table({"CC": ["copies"]}))
    23
    """
    check_routing_headers(headers)
    try:
        return table("headers", headers)
    except RecursionError:
        deep = next((name for name, value in headers.items() if _is_too_deep(value)), "?")
        raise PermanentError(f"headers[{deep!r}] is nested too deeply") from None


def _is_too_deep(value: Any) -> bool:
    try:
        _value("", value)
    except RecursionError:
        return True
    return False


def table(what: str, values: Mapping[str, Any]) -> bytes:
    r"""Encode a table; raises ``PermanentError`` that names the key whose value AMQP cannot hold.

    >>> table("headers", {"a": "b"})
    b'\x00\x00\x00\x08\x01aS\x00\x00\x00\x01b'
    """
    pieces = []
    for key, value in values.items():
        pieces.append(short_string(f"{what}: a name", key))
        pieces.append(_value(f"{what}[{key!r}]", value))
    encoded = b"".join(pieces)
    return struct.pack(">I", len(encoded)) + encoded


def _value(what: str, value: Any) -> bytes:
    # pika encodes neither doubles nor bytearrays, nor tables and arrays that may hold them.
    if isinstance(value, float):
        if not math.isfinite(value):  # RabbitMQ ends the connection for it, with 541 INTERNAL_ERROR
            raise PermanentError(f"{what} is NaN or infinite, which RabbitMQ refuses")
        return struct.pack(">cd", b"d", value)
    if isinstance(value, Mapping):
        return b"F" + table(what, value)
    if isinstance(value, list | tuple):
        encoded = b"".join(_value(f"{what}[{index}]", item) for index, item in enumerate(value))
        return struct.pack(">cI", b"A", len(encoded)) + encoded
    pieces: list[bytes] = []
    try:
        encode_scalar(pieces, bytes(value) if isinstance(value, bytearray) else value)
    except (AMQPError, ArithmeticError, struct.error, TypeError, ValueError) as error:
        raise PermanentError(f"{what} is a {type(value).__name__} that AMQP cannot hold") from error
    return b"".join(pieces)


def _group(fields: tuple[tuple[str, int, str], ...], values: Mapping[str, Any]) -> bytes:
    return b"".join(_field(name, kind, values[name]) for name, _, kind in fields if values[name] is not None)


def _field(name: str, kind: str, value: Any) -> bytes:
    what = f"property {name!r}"
    if kind == _STRING:
        return short_string(what, value)
    try:
        return struct.pack(">B", value) if kind == _BYTE else struct.pack(">Q", _seconds(value))
    except struct.error:
        raise PermanentError(f"{what} is out of range") from None


def _seconds(value: int | datetime) -> int:
    if not isinstance(value, datetime):
        return value
    # As pika does, a time without a zone is taken as UTC.
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
