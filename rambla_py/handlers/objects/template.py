"""This module makes the paths of objects from templates such as ``{date:%Y/%m/%d}/{id}.json``."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import string
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rambla_py.errors import PermanentError, nearest
from rambla_py.handlers.objects.place import check_path
from rambla_py.moment import time_of_day

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["PathTemplate", "accepted_at", "template_of"]

_NAMES = ("date", "id", "key", "channel", "service", "payload.NAME")

_MISSING: Any = object()
_Value = Callable[["Delivery", str], str]
_Piece = str | _Value


class PathTemplate(NamedTuple):
    """A path with places for what a message brings; made by ``template_of``."""

    text: str
    pieces: tuple[_Piece, ...]
    names: frozenset[str]

    def render(self, message: Delivery, *, name: str | None = None) -> str:
        """Return the path of a message, with ``name`` in the place of its id where that is given.

        Raises ``PermanentError`` when the message lacks a value, or has one that is no name: with a slash,
        a backslash or a control character in it, or such that the path would lead elsewhere.
        """
        told = message.id if name is None else name
        parts = [piece if isinstance(piece, str) else piece(message, told) for piece in self.pieces]
        path = "".join(parts)
        try:
            check_path(path)
        except ValueError as error:
            raise PermanentError(f"the path of this message: {error} (path = {self.text!r})") from None
        return path


@functools.lru_cache(maxsize=256)
def template_of(text: str) -> PathTemplate:
    """Return the template of a text; raises ``ValueError`` that names what is not known, and the nearest.

    >>> sorted(template_of("{date:%Y/%m/%d}/{payload.customer}/{id}.json").names)
    ['date', 'id', 'payload.customer']
    >>> template_of("{identifier}.json")
    Traceback (most recent call last):
    ...
    ValueError: the path '{identifier}.json' has {identifier}, which is not known; known are {date}, {id}, \
{key}, {channel}, {service}, {payload.NAME}
    """
    pieces: list[_Piece] = []
    names: set[str] = set()
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"the path {text!r} is no template: {error}") from None
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
    # A sample in the place of each value shows what is wrong with the text between them.
    check_path("".join(piece if isinstance(piece, str) else "x" for piece in pieces))
    return PathTemplate(text, tuple(pieces), frozenset(names))


def accepted_at(message: Delivery) -> dt.datetime:
    """Return when ``publish`` accepted the message, in UTC: the same for each of its attempts."""
    return time_of_day(message.accepted_at)


def _value(text: str, name: str, spec: str) -> _Value:
    if name == "date":
        return lambda message, told: accepted_at(message).strftime(spec or "%Y-%m-%d")
    if name.startswith("payload.") and all(name.split(".")):
        return _of_payload(name, spec)
    if spec:
        raise ValueError(f"the path {text!r} has {{{name}:{spec}}}; only dates and payloads take a format")
    if name == "id":
        return lambda message, told: _checked(name, told)
    if name == "key":
        return lambda message, told: _checked(name, message.key)
    if name == "channel":
        return lambda message, told: _checked(name, message.target.channel)
    if name == "service":
        return lambda message, told: _checked(name, message.target.service)
    close = nearest(name, _NAMES)
    known = ", ".join(f"{{{known}}}" for known in _NAMES)
    hint = f"did you mean {{{close}}}?" if close else f"known are {known}"
    raise ValueError(f"the path {text!r} has {{{name}}}, which is not known; {hint}")


def _of_payload(name: str, spec: str) -> _Value:
    steps = name.split(".")[1:]

    def value(message: Delivery, told: str) -> str:
        found = message.payload
        for step in steps:
            found = _step(found, step)
        try:
            written = _written(found, spec)
        except (TypeError, ValueError) as error:
            raise PermanentError(f"the path takes {{{name}:{spec}}}: {error}") from None
        # The slashes of a formatted date are the template's own.
        dated = spec and isinstance(found, dt.date)
        return str(written) if dated else _checked(name, written)

    return value


def _step(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, _MISSING)
    fields = getattr(type(value), "__dataclass_fields__", ())
    if name in fields or (isinstance(value, msgspec.Struct) and name in value.__struct_fields__):
        return getattr(value, name, _MISSING)
    return _MISSING


_PLAIN = (str, int, float, decimal.Decimal, dt.date, dt.time, uuid.UUID)


def _written(value: Any, spec: str) -> str | None:
    if value is _MISSING or value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, _PLAIN):
        raise TypeError(f"a value of type {type(value).__name__}, where a text, a number or a date is needed")
    if isinstance(value, dt.datetime) and not spec:
        return value.isoformat()
    return format(value, spec)


def _checked(name: str, value: str | None) -> str:
    if value is None or value == "":
        raise PermanentError(f"the path takes {{{name}}}, and the message has none")
    if "/" in value or "\\" in value or not value.isprintable():
        raise PermanentError(
            f"the path takes {{{name}}}, and {value[:100]!r} is no name: "
            "it has a slash, a backslash or a control character"
        )
    return value
