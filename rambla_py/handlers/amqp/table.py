"""This module encodes the strings, tables and basic properties of AMQP 0-9-1."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pika.data import encode_value as encode_scalar
from pika.exceptions import AMQPError

from rambla_py.errors import PermanentError
from rambla_py.handlers.amqp.settings import Properties

__all__ = ["ConstantProperties", "constant_properties", "short_text", "table"]

HEADERS_FLAG = 1 << 13
MESSAGE_ID_FLAG = 1 << 7

_LONGEST = 255
_TEXT, _BYTE, _TIME = "text", "byte", "time"

# Name, flag and kind, in the order of the wire; the table of headers and the message id vary by message.
_FIRST = (("content_type", 1 << 15, _TEXT), ("content_encoding", 1 << 14, _TEXT))
_SECOND = (
    ("delivery_mode", 1 << 12, _BYTE),
    ("priority", 1 << 11, _BYTE),
    ("correlation_id", 1 << 10, _TEXT),
    ("reply_to", 1 << 9, _TEXT),
    ("expiration", 1 << 8, _TEXT),
)
_THIRD = (
    ("timestamp", 1 << 6, _TIME),
    ("type", 1 << 5, _TEXT),
    ("user_id", 1 << 4, _TEXT),
    ("app_id", 1 << 3, _TEXT),
    ("cluster_id", 1 << 2, _TEXT),
)


class ConstantProperties:
    """The part of a content header that does not vary by message, encoded.

    ``first`` goes before the headers, ``second`` between them and the message id, ``third`` after it.
    ``flags`` are those of what is here.
    """

    __slots__ = ("first", "flags", "second", "third")

    def __init__(self, first: bytes, second: bytes, third: bytes, flags: int) -> None:
        self.first, self.second, self.third, self.flags = first, second, third, flags


def constant_properties(properties: Properties, *, content_type: str, persistent: bool) -> ConstantProperties:
    r"""Encode what the options say; ``content_type`` and ``persistent`` hold where the properties are silent.

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


def short_text(what: str, text: str) -> bytes:
    r"""Encode a short string: its length in a byte, then UTF-8; raises ``PermanentError`` over 255 bytes.

    >>> short_text("routing_key", "paid")
    b'\x04paid'
    """
    try:
        encoded = text.encode()
    except (UnicodeEncodeError, AttributeError):
        raise PermanentError(f"{what}: expected text that UTF-8 can hold, got {text!r:.80}") from None
    if len(encoded) > _LONGEST:
        raise PermanentError(f"{what}: {len(encoded)} bytes, and AMQP takes {_LONGEST}: {text[:40]!r}...")
    return bytes((len(encoded),)) + encoded


def table(what: str, values: Mapping[str, Any]) -> bytes:
    r"""Encode a table of headers; raises ``PermanentError`` that names the header that AMQP cannot hold.

    >>> table("headers", {"a": "b"})
    b'\x00\x00\x00\x08\x01aS\x00\x00\x00\x01b'
    """
    pieces = []
    for key, value in values.items():
        pieces.append(short_text(f"{what}: the name of a header", key))
        pieces.append(_value(f"{what}[{key!r}]", value))
    encoded = b"".join(pieces)
    return struct.pack(">I", len(encoded)) + encoded


def _value(what: str, value: Any) -> bytes:
    # The two kinds that pika leaves out come first: doubles, and tables or arrays that may hold one.
    if isinstance(value, float):
        return struct.pack(">cd", b"d", value)
    if isinstance(value, Mapping):
        return b"F" + table(what, value)
    if isinstance(value, list | tuple):
        encoded = b"".join(_value(f"{what}[{index}]", item) for index, item in enumerate(value))
        return struct.pack(">cI", b"A", len(encoded)) + encoded
    pieces: list[bytes] = []
    try:
        encode_scalar(pieces, value)
    except (AMQPError, ArithmeticError, struct.error, ValueError) as error:
        kind = type(value).__name__
        raise PermanentError(f"{what}: AMQP cannot hold this {kind}: {value!r:.80}") from error
    return b"".join(pieces)


def _group(fields: tuple[tuple[str, int, str], ...], values: Mapping[str, Any]) -> bytes:
    return b"".join(_field(name, kind, values[name]) for name, _, kind in fields if values[name] is not None)


def _field(name: str, kind: str, value: Any) -> bytes:
    what = f"property {name!r}"
    if kind == _TEXT:
        return short_text(what, value)
    try:
        return struct.pack(">B", value) if kind == _BYTE else struct.pack(">Q", _seconds(value))
    except struct.error:
        raise PermanentError(f"{what}: out of range: {value!r:.80}") from None


def _seconds(value: int | datetime) -> int:
    if not isinstance(value, datetime):
        return value
    # As pika does: a time without a zone is one in UTC.
    return int((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp())
