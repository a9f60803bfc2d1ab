"""Values of any type as plain, storable data."""

from __future__ import annotations

import dataclasses
import datetime as dt
import ipaddress
import operator
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from enum import Enum
from itertools import islice
from typing import Any, Final

import msgspec

from rambla_py._internal.redaction import MASK
from rambla_py.analytics.privacy.cards import is_card_number
from rambla_py.analytics.privacy.key_names import Kind
from rambla_py.analytics.privacy.marks import CUT, CYCLE, UNREADABLE

__all__ = ["DEPTH", "ITEMS", "NAMED", "Cleaner", "mask_named_value", "string_of", "unused"]

DEPTH: Final = 8
"""Levels of nested containers that are recorded."""
ITEMS: Final = 1_000
"""Items of a container that are recorded."""
_VALUES: Final = 10_000
"""Values of one event that are recorded: shared containers may repeat without end."""
_ADDRESS_TYPES = ipaddress.IPv4Address | ipaddress.IPv6Address
_LARGEST: Final = 2**63
_SMALLEST_CARD: Final = 10**12


class Cleaner:
    """Converts the values of one event; ``characters`` limits the strings it reads in all.

    ``text`` cleans a string, ``key`` returns the clean form of a key and its kind, ``address`` and ``email``
    convert what is under a key of that kind.
    """

    __slots__ = ("_address", "_characters", "_email", "_key", "_open", "_text", "_values")

    def __init__(
        self,
        *,
        text: Callable[[str], str],
        key: Callable[[object], tuple[str, Kind]],
        address: Callable[[object], str],
        email: Callable[[object], str],
        characters: int,
    ) -> None:
        self._text = text
        self._key = key
        self._address = address
        self._email = email
        self._characters = characters
        self._values = _VALUES
        self._open: set[int] = set()

    def field(self, kind: Kind, value: object, depth: int = 0) -> Any:
        """Return the value of a field as plain data; never raises an ``Exception``."""
        try:
            if kind is Kind.SECRET:
                return MASK
            if kind is Kind.IP and isinstance(value, str | bytes | _ADDRESS_TYPES):
                return self._address(value)
            if kind is Kind.EMAIL and isinstance(value, str | bytes):
                return self._email(value)
            return self._clean(value, depth, kind)
        except Exception:
            return UNREADABLE

    def _clean(self, value: object, depth: int, kind: Kind = Kind.PLAIN) -> Any:
        self._values -= 1
        if self._values < 0:
            return CUT
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, int):
            return self._integer(int.__add__(value, 0))
        if isinstance(value, float):
            return self._number(float.__add__(value, 0.0))
        if isinstance(value, Decimal):
            return self._string(str(value))
        contents = _contents(value)
        if contents is None:
            return self._scalar(value)
        if depth >= DEPTH:
            return CUT
        if id(value) in self._open:
            return CYCLE
        self._open.add(id(value))
        try:
            if isinstance(value, tuple) and self._is_secret_pair(value):
                return [self._key(value[0])[0], MASK]
            if isinstance(contents, Mapping):
                return self._mapping(contents.items(), depth + 1)
            return self._list(contents, depth + 1, kind)
        finally:
            self._open.discard(id(value))

    def _string(self, value: str) -> str:
        if type(value) is not str:
            value = str.__str__(value)
        self._characters -= len(value)
        return self._text(value) if self._characters >= -len(value) else CUT

    def _integer(self, value: int) -> int | str:
        if -_SMALLEST_CARD < value < _SMALLEST_CARD:
            return value
        if not -_LARGEST <= value < _LARGEST:
            return self._string(str(value) if value.bit_length() < 10_000 else hex(value))
        return MASK if is_card_number(abs(value)) else value

    def _number(self, value: float) -> float | str:
        if value - value != 0.0:
            return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
        if abs(value) >= _SMALLEST_CARD and value.is_integer() and is_card_number(abs(int(value))):
            return MASK
        return value

    def _scalar(self, value: object) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return self._string(_decoded(bytes(value)))
        if isinstance(value, Enum):
            return self._clean(value.value, DEPTH)
        if isinstance(value, dt.date | dt.time):
            return value.isoformat()
        if isinstance(value, dt.timedelta):
            return value.total_seconds()
        if isinstance(value, _ADDRESS_TYPES):
            return self._address(value)
        if hasattr(type(value), "__index__"):
            return self._integer(operator.index(value))  # type: ignore[arg-type]  # numpy's integers
        return self._string(string_of(value))

    def _mapping(self, items: Iterable[tuple[object, object]], depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for at, (key, value) in enumerate(items):
            if at == ITEMS:
                result[CUT] = CUT
                break
            name, kind = self._key(key)
            result[unused(name, result)] = self.field(kind, value, depth)
        mask_named_value(result, lambda name: self._key(name)[1] is Kind.SECRET)
        return result

    def _is_secret_pair(self, value: Sequence[object]) -> bool:
        """Return whether a value is a pair of a secret name and its value, such as a header."""
        return len(value) == 2 and isinstance(value[0], str | bytes) and self._key(value[0])[1] is Kind.SECRET

    def _list(self, items: Iterable[object], depth: int, kind: Kind) -> list[Any]:
        """Return clean items; ``kind`` is that of the list, because a list of addresses holds addresses."""
        result: list[Any] = []
        after_flag = False
        for at, item in enumerate(items):
            if at == ITEMS:
                result.append(CUT)
                break
            item_kind = Kind.SECRET if after_flag else kind
            after_flag = False
            if isinstance(item, str) and item.startswith("-") and "=" not in item:  # --password hunter2
                after_flag = self._key(item.lstrip("-"))[1] is Kind.SECRET
            elif isinstance(item, list) and self._is_secret_pair(item):  # a header
                item = [self._key(item[0])[0], MASK]
            result.append(self.field(item_kind, item, depth))
        return result


_NAMING: Final = frozenset(("name", "key", "header", "field", "param", "parameter", "variable", "env"))
NAMED: Final = frozenset(("value", "val", "content", "data"))
"""Names of the field whose meaning another field names."""


def mask_named_value(fields: dict[str, Any], is_secret: Callable[[str], bool]) -> None:
    """Mask the value of a secret that another field names, in any order of the two.

    >>> fields = {"value": "hunter2", "name": "password"}
    >>> mask_named_value(fields, lambda name: name == "password")
    >>> fields
    {'value': '***', 'name': 'password'}
    """
    named = [name for name in fields if name.lower() in NAMED]
    if named and any(
        name.lower() in _NAMING and isinstance(value, str) and is_secret(value)
        for name, value in fields.items()
    ):
        fields.update(dict.fromkeys(named, MASK))


def unused(name: str, taken: Mapping[str, object]) -> str:
    """Return a name that is not taken yet: the name itself, or the name with a number.

    >>> unused("a", {}), unused("a", {"a": 1, "a#2": 1})
    ('a', 'a#3')
    """
    if name not in taken:
        return name
    number = 2
    while f"{name}#{number}" in taken:
        number += 1
    return f"{name}#{number}"


def string_of(value: object) -> str:
    """Return ``str(value)``, or the name of the type where the string would be an address in memory.

    Raises what ``__str__`` of the value raises.

    >>> string_of(object()), string_of(ValueError("no")), string_of(b"yes")
    ('<object>', 'no', 'yes')
    """
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return _decoded(bytes(value))
    kind = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        return f"<{kind.__qualname__}>"
    return str.__str__(str(value))


def _decoded(value: bytes) -> str:
    """Return UTF-8 as a string; other bytes are described by their number."""
    try:
        if b"\x00" not in value:
            return value.decode()
    except UnicodeDecodeError:
        pass
    return f"<{len(value)} bytes>"


def _contents(value: object) -> Mapping[Any, object] | Iterable[object] | None:
    """Return the mapping or the items that a value consists of; None for a scalar, iterators included."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, tuple) and hasattr(type(value), "_fields"):
        return dict(zip(getattr(type(value), "_fields", ()), value, strict=False))
    if isinstance(value, list | tuple | Set | deque):
        return value
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Not getattr: an attribute of a mapped class may load it from a database.
        held = getattr(value, "__dict__", None)
        names = [field.name for field in dataclasses.fields(value) if field.repr]
        if held is None:
            return {name: getattr(value, name) for name in names}
        return {name: held[name] for name in names if name in held}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview | range):
        return islice(iter(value), ITEMS + 1)
    return None
