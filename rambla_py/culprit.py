"""This module finds the value inside a payload that a serializer refuses, once it has refused the whole."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, NamedTuple

import msgspec

__all__ = ["find_culprit"]

_SHOWN_STEPS = 16


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
        children = _children(item, dump, serializer)
        if children is None:
            reason = _refusal(item, dump, serializer)
            if reason is not None:
                return _path(step), reason
            continue
        if id(item) in inside:
            return _path(step), "a container that stands inside itself"
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


def _children(item: Any, dump: Callable[[Any], bytes], serializer: str) -> Iterator[tuple[Any, str]] | None:
    """Return the values inside a container, each with its step of the path; None for what holds nothing."""
    if isinstance(item, Mapping):
        return _of_mapping(item, dump, serializer)
    if isinstance(item, (list, tuple, set, frozenset, deque)) and not isinstance(item, (_Refused, _Leave)):
        return ((child, f"[{index}]") for index, child in enumerate(item))
    if isinstance(item, Enum):
        return iter([(item.value, "")])
    names = _field_names(item)
    return None if names is None else _of_fields(item, names)


def _of_mapping(
    item: Mapping[Any, Any], dump: Callable[[Any], bytes], serializer: str
) -> Iterator[tuple[Any, str]]:
    for key, child in list(item.items()):
        if _raises(dump, {key: None}) is not None:
            what = "a lone surrogate" if isinstance(key, str) else f"type '{_type_name(key)}'"
            link = "with" if isinstance(key, str) else "of"
            yield _Refused(f"a key {link} {what}, which {serializer} cannot write"), ""
        else:
            yield child, _key_step(key)


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


def _key_step(key: Any) -> str:
    if isinstance(key, str):
        text = str.__str__(key)
        return f".{text}" if text.isidentifier() else f"[{text!r}]"
    return f"[{key}]" if isinstance(key, (int, float)) else f"[{str(key)!r}]"


def _path(step: _Step) -> str:
    steps: list[str] = []
    at: _Step | None = step
    while at is not None:
        steps.append(at.text)
        at = at.before
    steps.reverse()
    if len(steps) > 2 * _SHOWN_STEPS:
        steps[_SHOWN_STEPS:-_SHOWN_STEPS] = [" ... "]
    return "".join(steps)
