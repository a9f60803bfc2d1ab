"""Copies of payloads, taken at the call, so that later changes to the original have no effect."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import uuid
from collections import OrderedDict, defaultdict
from enum import Enum
from typing import Any, Final, NamedTuple

import msgspec

from rambla_py.errors import SerializationError
from rambla_py.serialization.error_path import find_failed_form, key_step, shortened
from rambla_py.serialization.own_forms import OwnFormError, array_copy, final_form, has_json_method

__all__ = ["ATOMS", "MAX_LEVELS", "captured"]

MAX_LEVELS: Final = 1_000
"""Containers that may be inside each other."""

ATOMS: Final = frozenset(
    {str, bytes, int, float, bool, type(None), complex, range, frozenset}
    | {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID}
)
"""Types whose values cannot change, and are kept as they are."""


def captured(payload: Any) -> Any:
    """Return a payload that later changes to the original do not reach.

    Dicts, lists, sets, bytearrays, and tuples that hold containers are copied at every depth; a subclass
    becomes the plain type, except ``OrderedDict`` and ``defaultdict``. Dataclasses, msgspec structs, attrs
    and pydantic models become a copy whose container fields are copied, numpy arrays a copy. An object with
    ``__json__`` becomes what that returns. Anything else is kept by reference. No ``__deepcopy__`` or
    ``__copy__`` of the application is called.

    Raises ``SerializationError`` for a container that is inside itself, for more than 1,000 levels, and for
    an object whose ``__json__`` raises.

    >>> order = {"id": 42, "lines": [1]}
    >>> kept = captured(order)
    >>> order["lines"].append(2)
    >>> kept
    {'id': 42, 'lines': [1]}
    """
    kind = type(payload)
    if kind in ATOMS:
        return payload
    if kind is dict:
        copied = payload.copy()
        for value in copied.values():
            if type(value) not in ATOMS:
                break
        else:
            return copied
    try:
        return _walk(payload)
    except OwnFormError as error:
        raise SerializationError(*find_failed_form(payload, error)) from error


class _Open(NamedTuple):
    """A copied container whose values are still the original's; ``level`` counts those around it."""

    copy: Any
    source: Any
    level: int


def _walk(payload: Any) -> Any:
    # A loop and not a recursion: the interpreter's own limit is about as deep as ours.
    root: list[Any] = [payload]
    stack = [_Open(root, None, 0)]
    tuples: list[tuple[Any, Any, list[Any]]] = []
    while stack:
        place = stack.pop()
        for at, value in _entries(place.copy):
            if type(value) in ATOMS:
                continue
            formed = final_form(value) if has_json_method(value) else value
            copy = _shallow(formed)
            if copy is value:
                continue
            if place.level >= MAX_LEVELS:
                raise _too_deep(payload)
            _put(place.copy, at, copy)
            if copy is formed:
                continue
            if isinstance(formed, tuple):
                tuples.append((place.copy, at, copy))
            if _is_open(copy):
                stack.append(_Open(copy, formed, place.level + 1))
    # Those inside others come after them, so each is complete when its own list becomes a tuple.
    for owner, at, items in reversed(tuples):
        _put(owner, at, tuple(items))
    return root[0]


def _shallow(value: Any) -> Any:
    """Return a copy of a container, a list for a tuple; the value itself where it is kept."""
    if isinstance(value, dict):
        return _copied_dict(value)
    if isinstance(value, list):
        return list(value)
    if isinstance(value, tuple):
        return list(value) if _holds_containers(value) else value
    if isinstance(value, set):
        return set(value)
    if isinstance(value, bytearray):
        return bytearray(value)
    return _copied_model(value) if _is_model(value) else array_copy(value)


def _is_open(copy: Any) -> bool:
    """Return whether a copy still holds values of the original's."""
    return isinstance(copy, (dict, list)) or _is_model(copy)


def _copied_dict(value: dict[Any, Any]) -> Any:
    if type(value) is dict:
        return value.copy()
    # Methods of the plain types: an application's own may do anything.
    if isinstance(value, defaultdict):
        return defaultdict(value.default_factory, dict.items(value))
    return (
        OrderedDict(OrderedDict.items(value)) if isinstance(value, OrderedDict) else dict(dict.items(value))
    )


def _holds_containers(outer: tuple[Any, ...]) -> bool:
    """Return whether something inside a tuple, or inside tuples in it, is copied."""
    stack, seen = [outer], {id(outer)}
    while stack:
        for item in stack.pop():
            if type(item) in ATOMS or id(item) in seen:
                continue
            if isinstance(item, (dict, list, set, bytearray)) or _is_model(item) or has_json_method(item):
                return True
            if isinstance(item, tuple):
                seen.add(id(item))
                stack.append(item)
    return False


def _is_model(value: Any) -> bool:
    """Return whether a value is an object that declares its fields, and is not to be called."""
    kind = type(value)
    if isinstance(value, (type, Enum)):
        return False
    declares = (
        isinstance(value, msgspec.Struct)
        or dataclasses.is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "__pydantic_validator__")
        or (hasattr(kind, "__fields__") and hasattr(kind, "__validators__"))
    )
    return declares and not callable(value)


def _copied_model(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.Struct.__copy__(value)  # type: ignore[attr-defined]  # msgspec's own, in C
    kind = type(value)
    try:
        copy = object.__new__(kind)
    except TypeError:  # it derives from a built-in type, which keeps part of its state elsewhere
        return value
    for name in _slots_of(kind):
        # A field that was never set stays unset.
        try:
            object.__setattr__(copy, name, object.__getattribute__(value, name))
        except AttributeError:
            continue
    attributes = getattr(value, "__dict__", None)
    if attributes is not None:
        object.__getattribute__(copy, "__dict__").update(attributes)
    return copy


def _slots_of(kind: type) -> list[str]:
    names: list[str] = []
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name in ("__dict__", "__weakref__"):
                continue
            private = name.startswith("__") and not name.endswith("__")
            names.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return names


def _entries(container: Any) -> list[tuple[Any, Any]]:
    """Return the values in a copied container, each with its place."""
    if isinstance(container, dict):
        return list(container.items())
    if isinstance(container, list):
        return list(enumerate(container))
    if isinstance(container, msgspec.Struct):
        names: Any = container.__struct_fields__
    else:
        names = [*_slots_of(type(container)), *getattr(container, "__dict__", ())]
    return [(name, value) for name in names for value in _attribute(container, name)]


def _attribute(owner: Any, name: str) -> tuple[Any, ...]:
    attributes = getattr(owner, "__dict__", {})
    if name in attributes:
        return (attributes[name],)
    try:
        return (object.__getattribute__(owner, name),)
    except AttributeError:
        return ()


def _put(container: Any, at: Any, value: Any) -> None:
    if isinstance(container, (dict, list)):
        container[at] = value
    elif isinstance(container, msgspec.Struct):
        msgspec.structs.force_setattr(container, at, value)
    elif at in getattr(container, "__dict__", ()):
        container.__dict__[at] = value
    else:
        object.__setattr__(container, at, value)


def _too_deep(payload: Any) -> SerializationError:
    """Return the error for a payload that is nested too deep, with the path to where it goes wrong."""
    steps: list[str] = ["$"]
    path: list[tuple[int, Any]] = [(id(payload), iter(_children(payload)))]
    inside = {id(payload)}
    while path:
        child = next(path[-1][1], None)
        if child is None:
            inside.discard(path.pop()[0])
            steps.pop()
            continue
        step, value = child
        if id(value) in inside:
            return SerializationError(shortened([*steps, step]), "a container that is inside itself")
        if len(path) >= MAX_LEVELS:
            return SerializationError(
                shortened([*steps, step]), f"nested more than {MAX_LEVELS:,} levels deep"
            )
        steps.append(step)
        inside.add(id(value))
        path.append((id(value), iter(_children(value))))
    return SerializationError("$", f"nested more than {MAX_LEVELS:,} levels deep")


def _children(value: Any) -> list[tuple[str, Any]]:
    """Return the containers directly inside another, each with its step of the path."""
    if has_json_method(value):
        value = final_form(value)
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, dict):
        entries = [(key_step(key), item) for key, item in dict.items(value)]
    elif isinstance(value, list):
        entries = [(f"[{at}]", item) for at, item in enumerate(value)]
    elif _is_model(value):
        entries = [(f".{name}", item) for name, item in _entries(value)]
    else:
        return []
    return [
        (step, item)
        for step, item in entries
        if has_json_method(item) or (type(item) not in ATOMS and _is_open(_shallow(item)))
    ]
