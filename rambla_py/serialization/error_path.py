"""The path to a value inside a payload that a serializer refuses."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from rambla_py.serialization.own_forms import OwnFormError, final_form, has_json_method

__all__ = ["find_culprit", "find_failed_form", "find_not_finite", "key_step", "shortened"]

_SHOWN_STEPS = 16
_DEEPEST = 100_000


class _Step(NamedTuple):
    """A link of the path from a value back to the root."""

    before: _Step | None
    text: str
    depth: int


class _Refused(NamedTuple):
    """Stands where a value would, for what is wrong with a key or a field rather than with its value."""

    reason: str


class _Leave(NamedTuple):
    """Marks, on the stack, that everything inside a container was looked at."""

    container_id: int


def find_culprit(
    payload: Any, dump: Callable[[Any], bytes], error: BaseException, *, serializer: str
) -> tuple[str, str]:
    """Return the path of the first value that ``dump`` refuses, and what is wrong with it.

    ``error`` is what dumping the whole raised. Values never show, only their types. The walk is a loop, so
    that nesting of any depth, and a container that holds itself, end.

    >>> find_culprit({"lines": [1, [2, object()]]}, msgspec.json.encode, TypeError(), serializer="json")
    ('$.lines[1][1]', "a value of type 'object', which json cannot write")
    """
    root = _Step(None, "$", 0)
    deepest = root
    inside: set[int] = set()
    stack: list[tuple[Any, _Step]] = [(payload, root)]
    while stack:
        item, step = stack.pop()
        if isinstance(item, _Leave):
            inside.discard(item.container_id)
            continue
        if step.depth > _DEEPEST:
            break  # objects whose own form holds new ones without end
        children = _children(item, dump, serializer)
        if children is None:
            reason = _refusal(item, dump, serializer)
            if reason is not None:
                return _path(step), reason
            continue
        if id(item) in inside:
            return _path(step), "a container that is inside itself"
        inside.add(id(item))
        deepest = max(deepest, step, key=lambda at: at.depth)
        stack.append((_Leave(id(item)), step))
        stack.extend(
            (child, _Step(step, text, step.depth + 1) if text else step)
            for child, text in reversed(list(children))
        )
    if isinstance(error, RecursionError):
        return _path(deepest), f"nested {deepest.depth + 1} levels deep, too deep for {serializer}"
    return "$", f"{type(error).__name__}: {error}"


def find_failed_form(payload: Any, error: OwnFormError) -> tuple[str, str]:
    """Return the path of the first object whose own form raised, and why; ``error`` is what was raised."""
    return find_culprit(payload, lambda item: b"", error, serializer="json")


def _children(item: Any, dump: Callable[[Any], bytes], serializer: str) -> Iterator[tuple[Any, str]] | None:
    """Return the values inside a container, each with its step of the path; None for what holds nothing."""
    if has_json_method(item):
        return iter([(_final_form(item), "")])
    if isinstance(item, Mapping):
        return _of_mapping(item, dump, serializer)
    if isinstance(item, (list, tuple, set, frozenset, deque)) and not isinstance(item, (_Refused, _Leave)):
        return ((child, f"[{index}]") for index, child in enumerate(item))
    if isinstance(item, Enum):
        return iter([(item.value, "")])
    names = _field_names(item)
    if names is not None:
        return _of_fields(item, names)
    form = _final_form(item)
    return None if form is item else iter([(form, "")])


def _final_form(item: Any) -> Any:
    try:
        return final_form(item)
    except OwnFormError as error:
        return _Refused(str(error))


def _of_mapping(
    item: Mapping[Any, Any], dump: Callable[[Any], bytes], serializer: str
) -> Iterator[tuple[Any, str]]:
    for key, child in list(item.items()):
        if _raises(dump, {key: None}) is not None:
            what = "a lone surrogate" if isinstance(key, str) else f"type '{_type_name(key)}'"
            link = "with" if isinstance(key, str) else "of"
            yield _Refused(f"a key {link} {what}, which {serializer} cannot write"), ""
        else:
            yield child, key_step(key)


def _of_fields(item: Any, names: list[str]) -> Iterator[tuple[Any, str]]:
    for name in names:
        try:
            child = getattr(item, name)
        except AttributeError:
            yield _Refused("a field without a value"), f".{name}"
            continue
        if child is not msgspec.UNSET:
            yield child, f".{name}"


def _field_names(item: Any) -> list[str] | None:
    if isinstance(item, type):
        return None
    if isinstance(item, msgspec.Struct):
        return list(item.__struct_fields__)
    if dataclasses.is_dataclass(item):
        named: Any = dataclasses.fields(item)
    else:
        named = getattr(type(item), "__attrs_attrs__", None)
        if named is None:
            return None
    return [field.name for field in named]


def _refusal(item: Any, dump: Callable[[Any], bytes], serializer: str) -> str | None:
    if isinstance(item, _Refused):
        return item.reason
    error = _raises(dump, item)
    if error is None:
        return None
    if isinstance(error, UnicodeError):
        return "text with a lone surrogate, which UTF-8 cannot hold"
    if isinstance(item, int):
        digits = sys.get_int_max_str_digits()
        if isinstance(error, ValueError):
            return f"an integer of more than {digits:,} digits, which Python does not write"
    if isinstance(error, OverflowError):
        return f"an integer beyond 64 bits, which {serializer} cannot write"
    return f"a value of type '{_type_name(item)}', which {serializer} cannot write"


def _raises(dump: Callable[[Any], bytes], item: Any) -> Exception | None:
    try:
        dump(item)
    except Exception as error:
        return error
    return None


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def key_step(key: Any) -> str:
    """Return the step of a path that leads to a value of a mapping."""
    if isinstance(key, str):
        text = str.__str__(key)
        return f".{text}" if text.isidentifier() else f"[{text!r}]"
    return f"[{key}]" if isinstance(key, (int, float)) else f"[{str(key)!r}]"


def shortened(steps: list[str]) -> str:
    """Return a path as text, the middle of a very long one left out."""
    if len(steps) > 2 * _SHOWN_STEPS:
        steps = [*steps[:_SHOWN_STEPS], " ... ", *steps[-_SHOWN_STEPS:]]
    return "".join(steps)


def _path(step: _Step) -> str:
    steps: list[str] = []
    at: _Step | None = step
    while at is not None:
        steps.append(at.text)
        at = at.before
    steps.reverse()
    return shortened(steps)


def find_not_finite(payload: Any) -> tuple[str, str] | None:
    """Return the path of the first NaN or infinity that JSON would write as null, and what it is.

    The payload is one that was serialized, so it has no cycle and nothing that cannot be written.

    >>> find_not_finite({"readings": [1.0, float("nan")]})
    ('$.readings[1]', 'NaN, which JSON cannot hold')
    """
    if _is_plain_and_finite(payload):
        return None
    stack: list[tuple[Any, _Step]] = [(payload, _Step(None, "$", 0))]
    while stack:
        item, step = stack.pop()
        if isinstance(item, float):
            if not math.isfinite(item):
                return _path(step), f"{_float_name(item)}, which JSON cannot hold"
            continue
        if type(item) in _NO_FLOATS:
            continue
        stack.extend(
            (child, _Step(step, text, step.depth + 1) if text else step)
            for child, text in reversed(list(_values(item)))
        )
    return None


def _is_plain_and_finite(payload: Any) -> bool:
    """Return whether a payload has only plain containers and values, and no float that is not finite.

    Every payload with a None is looked at: without paths this takes a tenth of the time.
    """
    stack = [payload]
    while stack:
        item = stack.pop()
        kind = type(item)
        if kind is dict:
            for key in list(item):  # a copy: with snapshot = false others may change it
                if type(key) is not str:
                    return False
            values: Iterable[Any] = list(item.values())
        else:
            values = item if kind is list or kind is tuple else (item,)
        for value in values:
            kind = type(value)
            if kind is float:
                if not _LOWEST <= value <= _HIGHEST:
                    return False
            elif kind is dict or kind is list or kind is tuple:
                stack.append(value)
            elif kind not in _NO_FLOATS:
                return False
    return True


_LOWEST, _HIGHEST = -sys.float_info.max, sys.float_info.max
_PLAIN_CONTAINERS = frozenset({dict, list})
_NO_FLOATS = frozenset({str, int, bool, type(None), bytes})


def _values(item: Any) -> Iterator[tuple[Any, str]]:
    if type(item) not in _PLAIN_CONTAINERS and has_json_method(item):
        return iter([(final_form(item), "")])
    if isinstance(item, Mapping):
        return ((part, key_step(key)) for key, child in list(item.items()) for part in (key, child))
    if isinstance(item, (list, tuple, set, frozenset, deque)):
        return ((child, f"[{index}]") for index, child in enumerate(item))
    if isinstance(item, Enum):
        return iter([(item.value, "")])
    names = _field_names(item)
    if names is not None:
        return _of_fields(item, names)
    form = final_form(item)
    return iter(()) if form is item else iter([(form, "")])


def _float_name(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "infinity" if value > 0 else "-infinity"
