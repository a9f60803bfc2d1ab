"""Paths of objects from templates such as ``{date:%Y/%m/%d}/{id}.json``."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import string
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rambla_py._internal.wall_clock import time_of_day
from rambla_py.errors import PermanentError, nearest
from rambla_py.handlers.objects.urls import check_path, has_control

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["LONGEST_PATH_BYTES", "PathTemplate", "accepted_at", "template_of"]

_NAMES = ("date", "id", "key", "channel", "service", "payload.NAME")

LONGEST_PATH_BYTES = 1_024
"""The longest key of S3 and Google Cloud Storage, in UTF-8."""

_MISSING: Any = object()
_Value = Callable[["Delivery", str], str]
_Piece = str | _Value


class PathTemplate(NamedTuple):
    """A path with placeholders for values of a message; made by ``template_of``."""

    text: str
    pieces: tuple[_Piece, ...]
    names: frozenset[str]

    def render(self, message: Delivery, *, name: str | None = None) -> str:
        """Return the path of a message, with ``name`` instead of its id if that is given.

        Raises ``PermanentError`` if the message lacks a value, or has one with a slash, a backslash or a
        control character, if the path would lead elsewhere, or has more than 1,024 bytes.
        """
        chosen = message.id if name is None else name
        parts = [piece if isinstance(piece, str) else piece(message, chosen) for piece in self.pieces]
        path = "".join(parts)
        try:
            size = len(path.encode())
            if size > LONGEST_PATH_BYTES:
                raise PermanentError(
                    f"the path of this message has {size} bytes; at most {LONGEST_PATH_BYTES} are allowed"
                )
            check_path(path)
        except UnicodeError:
            raise PermanentError(
                f"the path of this message contains a lone surrogate (path = {self.text!r})"
            ) from None
        except ValueError:
            raise PermanentError(
                f"the path of this message is not names between single slashes (path = {self.text!r})"
            ) from None
        return path


@functools.lru_cache(maxsize=256)
def template_of(text: str) -> PathTemplate:
    """Return the template of a string; raises ``ValueError`` with the nearest known name for an unknown one.

    >>> sorted(template_of("{date:%Y/%m/%d}/{payload.customer}/{id}.json").names)
    ['date', 'id', 'payload.customer']
    >>> template_of("{identifier}.json")
    Traceback (most recent call last):
    ...
    ValueError: the path '{identifier}.json' has {identifier}, which is not known; known are {date}, {id}, \
{key}, {channel}, {service}, {payload.NAME}
    """
    if len(text) > LONGEST_PATH_BYTES:
        raise ValueError(f"a path of {len(text)} characters; {LONGEST_PATH_BYTES} are allowed")
    pieces: list[_Piece] = []
    names: set[str] = set()
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"the path {text!r} is not a template: {error}") from None
    for literal, name, spec, conversion in parsed:
        if literal:
            pieces.append(literal)
        if name is not None:
            if conversion:
                raise ValueError(
                    f"the path {text!r} has {{{name}!{conversion}}}; leave out the !{conversion}"
                )
            pieces.append(_value(text, name, spec or ""))
            names.add(name)
    # With a sample for each value, this checks the text between them.
    check_path("".join(piece if isinstance(piece, str) else "x" for piece in pieces))
    return PathTemplate(text, tuple(pieces), frozenset(names))


def accepted_at(message: Delivery) -> dt.datetime:
    """Return when ``publish`` accepted the message, in UTC: the same for each of its attempts."""
    return time_of_day(message.accepted_at)


def _value(text: str, name: str, spec: str) -> _Value:
    if spec:
        _check_date_format(text, name, spec)
    if name == "date":
        return lambda message, _: accepted_at(message).strftime(spec or "%Y-%m-%d")
    if name.startswith("payload.") and all(name.split(".")):
        return _of_payload(name, spec)
    if spec:
        raise ValueError(f"the path {text!r} has {{{name}:{spec}}}; only dates take a format")
    if name == "id":
        return lambda message, chosen: _checked(name, chosen)
    if name == "key":
        return lambda message, _: _checked(name, message.key)
    if name == "channel":
        return lambda message, _: _checked(name, message.channel)
    if name == "service":
        return lambda message, _: _checked(name, message.service)
    close = nearest(name, _NAMES)
    known = ", ".join(f"{{{known}}}" for known in _NAMES)
    hint = f"did you mean {{{close}}}?" if close else f"known are {known}"
    raise ValueError(f"the path {text!r} has {{{name}}}, which is not known; {hint}")


def _check_date_format(text: str, name: str, spec: str) -> None:
    try:
        sample = dt.datetime(2026, 12, 31, 23, 59, 59).strftime(spec)
    except ValueError:
        sample = ""
    if not 0 < len(sample) <= LONGEST_PATH_BYTES:
        raise ValueError(f"the path {text!r} has {{{name}:{spec}}}, which is not a date format")


def _of_payload(name: str, spec: str) -> _Value:
    steps = name.split(".")[1:]

    def value(message: Delivery, chosen: str) -> str:
        found = message.payload
        for step in steps:
            found = _step(found, step)
        if spec and found is not _MISSING and found is not None:
            if not isinstance(found, dt.date | dt.time):
                raise PermanentError(
                    f"the path takes {{{name}:{spec}}}: only dates take a format, and the value has type "
                    f"{type(found).__name__}"
                )
            return found.strftime(spec)  # its slashes are the template's own
        try:
            return _checked(name, _written(found))
        except (TypeError, ValueError) as error:
            raise PermanentError(f"the path takes {{{name}}}: {error}") from None

    return value


def _step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, _MISSING)
    fields = getattr(type(value), "__dataclass_fields__", ())
    if name in fields or (isinstance(value, msgspec.Struct) and name in value.__struct_fields__):
        return getattr(value, name, _MISSING)
    return _MISSING


_PLAIN = (str, int, float, decimal.Decimal, dt.date, dt.time, uuid.UUID)


def _written(value: Any) -> str | None:
    if value is _MISSING or value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, _PLAIN):
        raise TypeError(f"expected a string, a number or a date, got {type(value).__name__}")
    return value.isoformat() if isinstance(value, dt.datetime) else str(value)


def _checked(name: str, value: str | None) -> str:
    if value is None or value == "":
        raise PermanentError(f"the path takes {{{name}}}, and the message has none")
    if len(value) > LONGEST_PATH_BYTES:
        raise PermanentError(f"the path takes {{{name}}}, which has {len(value)} characters")
    if "/" in value or "\\" in value or has_control(value):
        raise PermanentError(
            f"the path takes {{{name}}}, which contains a slash, a backslash or a control character"
        )
    return value
