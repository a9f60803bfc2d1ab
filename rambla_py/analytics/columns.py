"""Values that columns take, by their types in SQL."""

from __future__ import annotations

import datetime
import math
import numbers
import operator
import re
import uuid
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

__all__ = ["Convert", "converter"]

Convert = Callable[[Any], Any]
"""Returns a value as its column takes it; raises ``ValueError``, which does not quote the value."""

_PRECISION = re.compile(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_EXACT = Context(prec=100)
"""Enough digits for any column: the usual 28 are fewer than those of numeric(38, 9)."""
_INTEGERS = {"smallint": 15, "integer": 31, "int": 31, "bigint": 63}


def converter(sql: str, minimum: float | None = None) -> Convert:
    """Return the conversion for a column of a type; raises ``ValueError`` for an unknown type.

    >>> converter("numeric(38, 9)")(0.1)
    Decimal('0.1')
    >>> converter("bigint", 0)(-1)
    Traceback (most recent call last):
        ...
    ValueError: expected an integer >= 0
    """
    base = sql.partition("(")[0].strip().lower()
    found = _PRECISION.search(sql)
    sizes = [int(size) for size in found.groups() if size] if found else []
    if base in ("text", "varchar", "char"):
        return _text(sizes[0]) if sizes else text
    if base in _INTEGERS:
        return _integer(_INTEGERS[base], minimum)
    if base in ("real", "float", "double", "double precision"):
        return _number(minimum)
    if base in ("numeric", "decimal"):
        precision = sizes[0] if sizes else 38
        return _decimal(precision, sizes[1] if len(sizes) > 1 else (0 if sizes else 9))
    simple: dict[str, Convert] = {
        "boolean": boolean,
        "bool": boolean,
        "uuid": _uuid,
        "date": _date,
        "timestamp": _time,
        "timestamptz": _time,
        "json": _any,
        "jsonb": _any,
    }
    if base not in simple:
        known = ", ".join([*simple, *_INTEGERS, "double", "numeric(38, 9)", "text", "varchar(20)"])
        raise ValueError(f"unknown type {sql!r}; known are {known}")
    return simple[base]


def text(value: Any) -> str:
    """Return a string as a plain ``str``."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise ValueError(f"expected a string; got {_kind(value)}")


def boolean(value: Any) -> bool:
    """Return a boolean, also of numpy."""
    if type(value) is bool:
        return value
    if type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    raise ValueError(f"expected true or false; got {_kind(value)}")


def _text(size: int) -> Convert:
    def convert(value: Any) -> str:
        given = text(value)
        if len(given) > size:
            raise ValueError(f"expected at most {size} characters; got {len(given)}")
        return given

    return convert


def _integer(bits: int, minimum: float | None) -> Convert:
    lowest = -(2**bits) if minimum is None else int(minimum)
    expected = "an integer" if minimum is None else f"an integer >= {lowest}"

    def convert(value: Any) -> int:
        if isinstance(value, bool):
            raise ValueError(f"expected {expected}; got a boolean")
        try:
            number = operator.index(value)
        except TypeError:
            raise ValueError(f"expected {expected}; got {_kind(value)}") from None
        if number < lowest:
            raise ValueError(f"expected {expected}")
        if number >= 2**bits:
            raise ValueError(f"expected an integer below 2^{bits}")
        return number

    return convert


def _number(minimum: float | None) -> Convert:
    lowest = -math.inf if minimum is None else minimum
    expected = "a finite number" if minimum is None else f"a finite number >= {minimum:g}"

    def convert(value: Any) -> float:
        if type(value) is not float:
            if isinstance(value, bool) or not isinstance(value, numbers.Real | Decimal):
                raise ValueError(f"expected {expected}; got {_kind(value)}")
            try:
                value = float(value)
            except OverflowError:
                value = math.inf
        if lowest <= value < math.inf and value > -math.inf:
            return float(value)
        raise ValueError(f"expected {expected}")

    return convert


def _decimal(precision: int, scale: int) -> Convert:
    expected = f"a number with at most {precision - scale} digits before the point and {scale} after it"
    step, end = Decimal(1).scaleb(-scale), Decimal(10) ** (precision - scale)

    def convert(value: Any) -> Decimal:
        if isinstance(value, float):
            number = Decimal(repr(float(value)))
        elif isinstance(value, Decimal):
            number = value
        elif isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f"expected a Decimal, an integer or a float; got {_kind(value)}")
        else:
            number = _parsed(value, expected)
        if not number.is_finite() or number.copy_abs() >= end:
            raise ValueError(f"expected {expected}")
        rounded = number.quantize(step, context=_EXACT)
        if rounded != number:
            if not isinstance(value, float):
                raise ValueError(f"expected {expected}")
            number = rounded  # 0.1 + 0.2 has 17 digits, an artefact of its binary form
        return Decimal(format(number, "f"))

    return convert


def _parsed(value: int | str, expected: str) -> Decimal:
    try:
        return Decimal(value)
    except ArithmeticError:
        raise ValueError(f"expected {expected}; got a string that is no number") from None


def _uuid(value: Any) -> str:
    if isinstance(value, uuid.UUID):
        return str(value)
    try:
        return str(uuid.UUID(text(value)))
    except ValueError:
        raise ValueError("expected a UUID") from None


def _date(value: Any) -> str:
    if isinstance(value, datetime.datetime):
        raise ValueError("expected a date; got a time")
    if isinstance(value, datetime.date):
        return value.isoformat()
    try:
        return datetime.date.fromisoformat(text(value)).isoformat()
    except ValueError:
        raise ValueError("expected a date such as 2024-01-15") from None


def _time(value: Any) -> str:
    try:
        if not isinstance(value, datetime.datetime):
            value = datetime.datetime.fromisoformat(text(value))
    except ValueError:
        raise ValueError("expected a time in ISO form such as 2024-01-15T10:30:00Z") from None
    return str(value.isoformat())


def _any(value: Any) -> Any:
    return value


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
