"""Values of messages as MessagePack, as the journal stores them."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import uuid
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec.msgpack import Ext

from rambla_py.errors import SerializationError
from rambla_py.serialization.error_path import key_step
from rambla_py.serialization.own_forms import NO_FORM, OwnFormError, own_form

__all__ = ["dump_value", "is_native", "load_value"]

_DATETIME, _DATE, _TIME, _UUID, _BIG_INTEGER, _DECIMAL, _DURATION = range(1, 8)

_NATIVE: Final = frozenset({str, int, float, bool, type(None), bytes})
_LONGEST: Final = 1 << 64
_encode = msgspec.msgpack.Encoder().encode


def dump_value(value: Any, *, native: bool | None = None) -> bytes:
    """Return a value as MessagePack; dates, times, UUIDs, ``Decimal`` and big integers keep their type.

    Tuples become lists; dataclasses, structs and models become dicts of their fields. Raises
    ``SerializationError`` with the path to a value that cannot be stored: a set, a file, a function.
    ``native`` is what ``is_native`` returned for it, if that is known.

    >>> load_value(dump_value({"id": 42, "at": datetime.date(2026, 1, 2), "lines": (1, 2)}))
    {'id': 42, 'at': datetime.date(2026, 1, 2), 'lines': [1, 2]}
    """
    if is_native(value) if native is None else native:
        try:
            return _encode(value)
        except (OverflowError, UnicodeEncodeError):  # a big integer, or a lone surrogate
            pass
    try:
        return _encode(_packed(value, "$"))
    except RecursionError:
        raise SerializationError("$", "too many levels, or a container that is inside itself") from None


def is_native(value: Any) -> bool:
    """Return whether a value is read back as it was, without a look at what is inside of containers."""
    kind = type(value)
    if kind is dict:
        return {str}.issuperset(map(type, value)) and _NATIVE.issuperset(map(type, value.values()))
    return kind in _NATIVE


def load_value(data: bytes) -> Any:
    """Return the value of ``dump_value``; raises ``ValueError`` for anything else."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, ArithmeticError, RecursionError, TypeError) as error:
        raise ValueError(f"not a stored value: {error}") from error


def _packed(value: Any, path: str) -> Any:
    kind = type(value)
    if kind in _NATIVE:
        return _packed_native(value, kind, path)
    if kind is dict:
        return {_packed_key(key, path): _packed(item, path + key_step(key)) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_packed(item, f"{path}[{at}]") for at, item in enumerate(value)]
    convert = _EXTENSIONS.get(kind)
    return convert(value) if convert is not None else _packed_object(value, path)


def _packed_native(value: Any, kind: type, path: str) -> Any:
    if kind is int and not -_LONGEST // 2 <= value < _LONGEST:
        return Ext(_BIG_INTEGER, _integer_bytes(value))
    if kind is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SerializationError(path, "text with a lone surrogate, which UTF-8 cannot hold") from None
    return value


def _packed_key(key: Any, path: str) -> Any:
    if type(key) in _NATIVE:
        return _packed_native(key, type(key), path)
    if isinstance(key, str | int):
        return _packed_key(key.value if isinstance(key, Enum) else _plain(key), path)
    convert = _EXTENSIONS.get(type(key))
    if convert is not None:
        return str(key)
    raise SerializationError(path, f"a key of type {type(key).__name__!r}, which cannot be stored")


def _packed_object(value: Any, path: str) -> Any:
    if isinstance(value, Enum):
        return _packed(value.value, path)
    if isinstance(value, str | int | float | bytes | bytearray | memoryview):
        return _packed(_plain(value), path)
    if isinstance(value, Mapping):
        return _packed(dict(value), path)
    if isinstance(value, list | tuple):
        return _packed(list(value), path)
    for base, convert in _EXTENSIONS.items():
        if isinstance(value, base):
            return convert(value)
    fields = _fields(value)
    if fields is not None:
        return _packed(fields, path)
    try:
        form = own_form(value)
    except OwnFormError as error:
        raise SerializationError(path, str(error)) from error
    if form is NO_FORM:
        raise SerializationError(path, f"a value of type {type(value).__name__!r}, which cannot be stored")
    return _packed(form, path)


def _plain(value: Any) -> Any:
    for base in (str, int, float):
        if isinstance(value, base):
            return base(value)
    return bytes(value)


def _fields(value: Any) -> dict[str, Any] | None:
    """Return the fields of a struct, a dataclass or an attrs object; None for anything else."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    attributes = getattr(type(value), "__attrs_attrs__", None)
    return None if attributes is None else {one.name: getattr(value, one.name) for one in attributes}


def _integer_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


_EXTENSIONS: dict[type, Callable[[Any], Ext]] = {
    datetime.datetime: lambda value: Ext(_DATETIME, value.isoformat().encode()),
    datetime.date: lambda value: Ext(_DATE, value.isoformat().encode()),
    datetime.time: lambda value: Ext(_TIME, value.isoformat().encode()),
    datetime.timedelta: lambda value: Ext(
        _DURATION, _encode((value.days, value.seconds, value.microseconds))
    ),
    uuid.UUID: lambda value: Ext(_UUID, value.bytes),
    decimal.Decimal: lambda value: Ext(_DECIMAL, str(value).encode()),
}


def _unpacked(code: int, data: memoryview) -> Any:
    raw = bytes(data)
    match code:
        case 1:
            return datetime.datetime.fromisoformat(raw.decode())
        case 2:
            return datetime.date.fromisoformat(raw.decode())
        case 3:
            return datetime.time.fromisoformat(raw.decode())
        case 4:
            return uuid.UUID(bytes=raw)
        case 5:
            return int.from_bytes(raw, "big", signed=True)
        case 6:
            return decimal.Decimal(raw.decode())
        case 7:
            days, seconds, microseconds = msgspec.msgpack.decode(raw)
            return datetime.timedelta(days, seconds, microseconds)
    raise ValueError(f"an unknown extension type {code}")


_decode = msgspec.msgpack.Decoder(ext_hook=_unpacked).decode
