"""Plain values for objects that have a form of their own in JSON."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import sys
import uuid
from collections import deque
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any, Final

import msgspec

from rambla_py.serialization.json_numbers import JsonNumber

__all__ = [
    "NO_FORM",
    "OwnFormError",
    "array_copy",
    "final_form",
    "has_json_method",
    "own_form",
    "plain",
    "plain_for_json",
]

NO_FORM: Final = object()
"""What ``own_form`` returns for an object without one."""

_MOST_FORMS = 100


class OwnFormError(TypeError):
    """The method that returns an object's own form failed; the text says how, and quotes no data."""


def own_form(value: Any) -> Any:
    """Return the plain value that an object is written as; ``NO_FORM`` if it has none.

    That is what ``__json__()`` returns; ``model_dump(mode="json")`` of a pydantic model; ``item()`` of a
    numpy scalar, and ``tolist()`` of an array; a path as a string. numpy's times keep all their digits: a
    ``datetime64`` is a string in ISO 8601. The result may hold further objects. Dataclasses, attrs classes
    and msgspec structs have no form here: they are written field by field. Raises ``OwnFormError``.

    >>> own_form(PurePath("a/b")), own_form(object()) is NO_FORM
    ('a/b', True)
    """
    if has_json_method(value):
        form = _called(value, value.__json__, "__json__")
    elif isinstance(value, PurePath):
        return str(value)
    elif _is_pydantic(value):
        form = _pydantic(value)
    else:
        return _of_numpy(value)
    if form is value:
        raise OwnFormError("an object whose own form is itself")
    return form


def final_form(value: Any) -> Any:
    """Return the first form of an object that has no form of its own, which may be the object itself.

    Raises ``OwnFormError``.

    >>> final_form(PurePath("a")), final_form(1)
    ('a', 1)
    """
    for _ in range(_MOST_FORMS):
        form = own_form(value)
        if form is NO_FORM:
            return value
        value = form
    raise OwnFormError("an object whose own forms have no end")


def plain_for_json(value: Any) -> Any:
    """Return what msgspec can write as JSON for an object that it cannot write: its hook.

    Raises ``TypeError`` for what has no form.
    """
    return value.written() if type(value) is JsonNumber else plain(value)


def plain(value: Any) -> Any:
    """Return a plain value for an object: its ``own_form``, or that of its base type; a mapping as a dict.

    Raises ``TypeError`` for what has neither.
    """
    form = own_form(value)
    if form is not NO_FORM:
        return form
    for kind, base in _BASES:
        if isinstance(value, kind):
            return base(value)
    raise TypeError(f"cannot write an object of type {type(value).__qualname__}")


def has_json_method(value: Any) -> bool:
    """Return whether an object is written by its ``__json__``: not if its class declares fields."""
    return (
        hasattr(type(value), "__json__")
        and not isinstance(value, (type, Enum, dict, list, tuple))
        and not _declares_fields(type(value))
    )


def _declares_fields(kind: type) -> bool:
    """Return whether objects of a class are written field by field."""
    return (
        issubclass(kind, msgspec.Struct) or dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__")
    )


def array_copy(value: Any) -> Any:
    """Return a copy of a numpy array, and anything else as it is."""
    numpy = sys.modules.get("numpy")
    return numpy.ndarray.copy(value) if numpy is not None and isinstance(value, numpy.ndarray) else value


def _is_pydantic(value: Any) -> bool:
    kind = type(value)
    if isinstance(value, type):
        return False
    # Version 2 warns when the attributes of version 1 are looked at.
    return hasattr(kind, "__pydantic_serializer__") or (
        hasattr(kind, "__fields__") and hasattr(kind, "__validators__")
    )


def _pydantic(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return _called(value, lambda: value.model_dump(mode="json"), "model_dump")
    return _called(value, value.dict, "dict")  # version 1


def _called(value: Any, method: Any, name: str) -> Any:
    try:
        return method()
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        raise OwnFormError(f"an object whose {name} raised {type(error).__name__}") from error


def _of_numpy(value: Any) -> Any:
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.generic, numpy.ndarray)):
        return NO_FORM
    if numpy.isdtype(value.dtype, "complex floating") or value.dtype.char == "g":
        return NO_FORM
    if value.dtype.kind not in "Mm":
        return value.tolist()
    if isinstance(value, numpy.ndarray):
        return list(value) if value.ndim else value[()]
    return _time_of_numpy(value, numpy)


def _time_of_numpy(value: Any, numpy: Any) -> Any:
    """Return a time as a string, an interval as a ``timedelta`` if it has whole microseconds."""
    if numpy.isnat(value):
        raise OwnFormError("NaT, which JSON cannot hold")
    if value.dtype.kind == "M":
        return str(value)
    exact = value.astype("timedelta64[us]")
    if exact != value:
        raise OwnFormError("a timedelta64 with parts of a microsecond, which JSON cannot hold")
    return exact.item()


def _datetime(value: Any) -> Any:
    if getattr(value, "nanosecond", 0):
        return value.isoformat()  # of pandas
    return datetime.datetime.combine(value.date(), value.timetz())


_BASES: tuple[tuple[Any, Any], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (bytes, bytes),
    (decimal.Decimal, decimal.Decimal),
    (datetime.datetime, _datetime),
    (datetime.date, lambda value: datetime.date(value.year, value.month, value.day)),
    (datetime.time, lambda value: datetime.time.fromisoformat(datetime.time.isoformat(value))),
    (datetime.timedelta, lambda value: datetime.timedelta(value.days, value.seconds, value.microseconds)),
    (uuid.UUID, lambda value: uuid.UUID(int=value.int)),
    (Mapping, dict),
    (deque, list),
)
