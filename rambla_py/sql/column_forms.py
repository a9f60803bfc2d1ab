"""Forms of values that a column holds without change."""

from __future__ import annotations

import datetime
import decimal
import email.utils
import re
import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
import sqlalchemy

from rambla_py.serialization.encoding import to_json
from rambla_py.sql.errors import SqlDataError

__all__ = ["ColumnForm", "array_form", "form_of"]


class ColumnForm(NamedTuple):
    """How values become what a column holds.

    ``convert`` is called for values of other types than exactly those in ``as_they_are``. Objects of the
    classes in ``containers`` go to it as they are; otherwise they become JSON first. It raises
    ``SqlDataError`` for a value that the database would change; its message does not quote the value.
    """

    as_they_are: frozenset[type]
    convert: Callable[[Any], Any]
    containers: tuple[type, ...] = ()


def form_of(kind: Any) -> ColumnForm | None:
    """Return the form for a type of SQLAlchemy that databases round or cut values for, else None.

    Integers have no fraction; times without a zone are in UTC.

    >>> form = form_of(sqlalchemy.Integer())
    >>> form.convert(2.0), form.convert("x")
    (2, 'x')
    >>> form_of(sqlalchemy.DateTime()).convert("2026-01-02T03:04:05+02:00")
    datetime.datetime(2026, 1, 2, 1, 4, 5)
    >>> form_of(sqlalchemy.Text())
    """
    if isinstance(kind, sqlalchemy.Integer):
        return _WHOLE
    if isinstance(kind, sqlalchemy.DateTime) and not kind.timezone:
        return _INSTANT
    return None


# -- integers ------------------------------------------------------------------------------------

_MOST_DIGITS = 40
"""More fit no integer column: writing 1E+999999999 out would take all memory."""


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        raise _fraction()
    if isinstance(value, decimal.Decimal):
        return _whole_decimal(value, value)
    if isinstance(value, str):
        try:
            return _whole_decimal(decimal.Decimal(value), value)
        except decimal.InvalidOperation:
            return value
    return value


def _whole_decimal(number: decimal.Decimal, value: Any) -> Any:
    if not number.is_finite():
        return value
    if number.adjusted() > _MOST_DIGITS:
        raise SqlDataError("expected an integer, got a number that is out of range")
    if number != number.to_integral_value():
        raise _fraction()
    return value if isinstance(value, str) and value.strip().lstrip("+-").isdecimal() else int(number)


def _fraction() -> SqlDataError:
    return SqlDataError("expected an integer, got a number with a fraction")


_WHOLE = ColumnForm(frozenset({int, bool, type(None)}), _whole)


# -- times ---------------------------------------------------------------------------------------

_WITH_TIME = re.compile(r"(?P<head>.*?\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)\s*(?P<tail>.*)", re.DOTALL)
_LONGEST_TIME = 100
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d{2}))?(?::?(?P<seconds>\d{2}))?")
_ZONES = re.compile(r"(?<!\S)(?:[+-]\d[\d:]*|[A-Za-z][\w/+-]*)")
# Words of a time that are no zone: a half of a day, an era, parts of a date.
_NO_ZONES = frozenset({"am", "pm", "ad", "bc", "a", "p"})
_OF_DATES = re.compile(
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mon|tue|wed|thu|fri|sat|sun)", re.I
)


def _instant(value: Any) -> Any:
    """Return a time with a zone in UTC, also from text; anything else as it is."""
    if not isinstance(value, str):
        return value
    found = _zoned(value.strip())
    if found is None or found.tzinfo is None:
        return value
    try:
        return found.astimezone(datetime.UTC).replace(tzinfo=None)
    except OverflowError:
        raise SqlDataError("expected a time of the years 1 to 9999 in UTC") from None


def _zoned(text: str) -> datetime.datetime | None:
    """Return the time of a string with a zone; None if the string has none."""
    try:
        return datetime.datetime.fromisoformat(text)
    except ValueError:
        pass
    parts = _WITH_TIME.fullmatch(text[:_LONGEST_TIME])
    if parts is None or not any(map(_is_zone, _ZONES.findall(parts["tail"]))):
        return None
    for read in (_read_named, _read_mail):
        with suppress(ValueError, TypeError, LookupError, OSError):
            found = read(text, parts)
            if found.tzinfo is not None:
                return found
    raise SqlDataError("expected a time in ISO 8601, got one with a zone that cannot be read")


def _read_named(text: str, parts: re.Match[str]) -> datetime.datetime:
    time = datetime.datetime.fromisoformat(parts["head"])
    return time.replace(tzinfo=_zone(parts["tail"])) if time.tzinfo is None else time


def _read_mail(text: str, parts: re.Match[str]) -> datetime.datetime:
    return email.utils.parsedate_to_datetime(text)


def _is_zone(word: str) -> bool:
    return word.lower() not in _NO_ZONES and not _OF_DATES.match(word)


def _zone(name: str) -> datetime.tzinfo:
    """Return a zone by its offset or name; raises ``ValueError``, ``LookupError`` or ``OSError``."""
    parts = _OFFSET.fullmatch(name)
    if parts is None:
        return datetime.UTC if name.lower() in ("z", "utc", "gmt", "ut") else zoneinfo.ZoneInfo(name)
    offset = datetime.timedelta(
        hours=int(parts["hours"]), minutes=int(parts["minutes"] or 0), seconds=int(parts["seconds"] or 0)
    )
    return datetime.timezone(offset if parts["sign"] == "+" else -offset)


_INSTANT = ColumnForm(frozenset({datetime.date, type(None)}), _instant)


# -- arrays --------------------------------------------------------------------------------------

_LISTS = (list, tuple, set, frozenset)


def array_form(item: Any) -> ColumnForm:
    """Return the form for a PostgreSQL array of items of a type: lists become its literals.

    >>> array_form(sqlalchemy.Text()).convert(["a", None, 1])
    '{"a",NULL,"1"}'
    """
    form, is_json = form_of(item), isinstance(item, sqlalchemy.JSON)
    binary = isinstance(item, sqlalchemy.LargeBinary | sqlalchemy.types._Binary)

    def literal(value: Any) -> str:
        return "{" + ",".join(map(element, value)) + "}"

    def element(value: Any) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, _LISTS) and not is_json:
            return literal(value)
        text = to_json(value).decode() if is_json else _text(value, form, binary)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    def convert(value: Any) -> Any:
        return literal(value) if isinstance(value, _LISTS) else value

    return ColumnForm(frozenset({str, type(None)}), convert, _LISTS)


def _text(value: Any, form: ColumnForm | None, binary: bool) -> str:
    """Return an element as the server reads it."""
    if form is not None and type(value) not in form.as_they_are:
        value = _instant_of(value) if form is _INSTANT else form.convert(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return "\\x" + bytes(value).hex() if binary else _decoded(bytes(value))
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, float):
        return repr(float(value))
    text = to_json(value)
    return str(msgspec.json.decode(text)) if text.startswith(b'"') else text.decode()


def _decoded(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise SqlDataError("expected text, got bytes that are not UTF-8") from None


def _instant_of(value: Any) -> Any:
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.astimezone(datetime.UTC).replace(tzinfo=None)
    return _instant(value)
