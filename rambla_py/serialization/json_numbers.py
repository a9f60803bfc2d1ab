"""JSON text read without loss of digits."""

from __future__ import annotations

import decimal
import functools
import math
from typing import Any

import msgspec

__all__ = ["JsonNumber", "read_json", "read_json_as", "written_json"]


class JsonNumber(decimal.Decimal):
    """A number of JSON text that a float would round: a ``Decimal`` that JSON writes as a number again."""

    __slots__ = ()

    def written(self) -> msgspec.Raw:
        """Return the number as JSON, with all its digits.

        >>> bytes(JsonNumber("0.10000000000000000001").written())
        b'0.10000000000000000001'
        """
        return msgspec.Raw(str(self).encode())


def _number(text: str) -> float | JsonNumber:
    value = float(text)
    if repr(value) == text or (
        math.isfinite(value) and decimal.Decimal(repr(value)) == decimal.Decimal(text)
    ):
        return value
    try:
        return JsonNumber(text)
    except decimal.InvalidOperation:
        raise ValueError("a number whose exponent is out of range") from None


_read = msgspec.json.Decoder(float_hook=_number).decode
_check = msgspec.json.Decoder(msgspec.Raw).decode


def read_json(text: str | bytes) -> Any:
    """Return the value of JSON text; a number that a float would round is a ``JsonNumber``.

    Raises ``msgspec.DecodeError``, ``UnicodeError`` and ``RecursionError``.

    >>> read_json("[0.5, 0.10000000000000000001, 12345678901234567890123]")
    [0.5, Decimal('0.10000000000000000001'), 12345678901234567890123]
    """
    return _read(text)


def written_json(text: str) -> msgspec.Raw:
    """Return JSON text, checked, as a value that JSON writes as it is; raises as ``read_json`` does.

    >>> bytes(written_json(' {"price": 1.10}'))
    b'{"price": 1.10}'
    """
    data = text.strip(" \t\r\n").encode()
    _check(data)
    return msgspec.Raw(data)


def read_json_as(data: bytes, kind: Any) -> Any:
    """Return JSON text as a value of a type, with untyped numbers as ``read_json`` has them.

    Raises ``msgspec.ValidationError`` too.
    """
    return _decoder(kind).decode(data)


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind, float_hook=_number)
