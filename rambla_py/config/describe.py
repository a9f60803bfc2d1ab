"""Descriptions of types and values for error messages."""

from __future__ import annotations

from typing import Any

from msgspec import inspect

from rambla_py._internal.redaction import redact_url
from rambla_py.handler import Secret

__all__ = ["choices", "type_in_words", "value_in_words"]

_LONGEST = 60
_SIMPLE: dict[type, str] = {
    inspect.BoolType: "a boolean",
    inspect.NoneType: "nothing",
    inspect.BytesType: "bytes",
    inspect.AnyType: "anything",
    inspect.StructType: "a table",
    inspect.DictType: "a table",
    inspect.TypedDictType: "a table",
    inspect.DataclassType: "a table",
    inspect.DateTimeType: "a date with time",
    inspect.DateType: "a date",
    inspect.TimeType: "a time",
}
_LISTS = (inspect.ListType, inspect.SetType, inspect.FrozenSetType, inspect.VarTupleType, inspect.TupleType)


def type_in_words(declared: Any) -> str:
    """Return a description of the values that a type accepts.

    >>> from typing import Annotated, Literal
    >>> import msgspec
    >>> type_in_words(Annotated[int, msgspec.Meta(ge=1)]), type_in_words(Literal["block", "raise"] | None)
    ('an integer >= 1', "one of 'block', 'raise'")
    """
    return _words(inspect.type_info(declared))


def choices(declared: Any) -> list[str]:
    """Return the strings that a type accepts if it accepts only certain ones.

    >>> from typing import Literal
    >>> choices(Literal["block", "raise"] | None)
    ['block', 'raise']
    """
    return _choices(inspect.type_info(declared))


def value_in_words(value: Any) -> str:
    """Return a description of a value; passwords in URLs are masked.

    >>> value_in_words("two"), value_in_words(True), value_in_words({"a": 1}), value_in_words(None)
    ("'two'", 'true', "a table with 'a'", 'nothing')
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = redact_url(value)
        return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        return "a table with " + ", ".join(map(repr, value)) if value else "an empty table"
    if isinstance(value, list | tuple):
        return f"an array of {len(value)}" if value else "an empty array"
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    return f"a {type(value).__name__}"


def _words(info: inspect.Type) -> str:
    if isinstance(info, inspect.Metadata):
        return _words(info.type)
    if isinstance(info, inspect.UnionType):
        return _either(info.types)
    if isinstance(info, inspect.LiteralType):
        return _choice(info.values)
    if isinstance(info, inspect.EnumType):
        return _choice(tuple(member.value for member in info.cls))
    if isinstance(info, inspect.IntType | inspect.FloatType):
        lead = "an integer" if isinstance(info, inspect.IntType) else "a number"
        return lead + _bounds(info)
    if isinstance(info, inspect.StrType):
        return "a string" + _lengths(info, "characters") + (f" like {info.pattern}" if info.pattern else "")
    if isinstance(info, _LISTS):
        return _list(info)
    if isinstance(info, inspect.CustomType):
        return "a string" if info.cls is Secret else f"a {getattr(info.cls, '__name__', info.cls)}"
    return _SIMPLE.get(type(info), "a value of another type")


def _either(types: tuple[inspect.Type, ...]) -> str:
    shown = [part for part in types if not isinstance(part, inspect.NoneType)]
    if any(isinstance(part, inspect.FloatType) for part in shown):
        shown = [part for part in shown if not isinstance(part, inspect.IntType)]
    return " or ".join(dict.fromkeys(map(_words, shown)))


def _choices(info: inspect.Type) -> list[str]:
    if isinstance(info, inspect.Metadata):
        return _choices(info.type)
    if isinstance(info, inspect.UnionType):
        return [choice for part in info.types for choice in _choices(part)]
    if isinstance(info, inspect.EnumType):
        return [str(member.value) for member in info.cls]
    return list(map(str, info.values)) if isinstance(info, inspect.LiteralType) else []


def _choice(values: tuple[Any, ...]) -> str:
    shown = ", ".join(map(repr, values))
    return f"one of {shown}" if len(values) > 1 else shown


def _bounds(info: inspect.IntType | inspect.FloatType) -> str:
    signs = ((">=", info.ge), (">", info.gt), ("<=", info.le), ("<", info.lt))
    parts = [f"{sign} {_number(bound)}" for sign, bound in signs if bound is not None]
    if info.multiple_of is not None:
        parts.append(f"a multiple of {info.multiple_of:g}")
    return (" " + " and ".join(parts)) if parts else ""


def _number(bound: float) -> str:
    return str(int(bound)) if float(bound).is_integer() else str(bound)


def _lengths(info: Any, unit: str) -> str:
    if info.min_length == 1 and info.max_length is None:
        return " that is not empty"
    parts = []
    if info.min_length is not None:
        parts.append(f"at least {info.min_length} {unit}")
    if info.max_length is not None:
        parts.append(f"at most {info.max_length} {unit}")
    return (" of " + " and ".join(parts)) if parts else ""


def _list(info: Any) -> str:
    item = getattr(info, "item_type", None)
    each = "" if item is None or isinstance(item, inspect.AnyType) else f", each {_words(item)}"
    length = "" if isinstance(info, inspect.TupleType) else _lengths(info, "values")
    return "an array" + length + each
