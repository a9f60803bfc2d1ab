"""Size of an event as JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from rambla_py.analytics.privacy.marks import CUT

__all__ = ["fit"]

_FURTHER: Final = ("properties", "context")
_SHORTEST: Final = 64
_encode: Final = msgspec.json.Encoder(enc_hook=str).encode


def fit(event: dict[str, Any], limit: int) -> dict[str, Any]:
    """Return an event of at most ``limit`` bytes as JSON; one that is small enough is returned itself.

    Its largest further fields are replaced by a mark, one by one; then, if that is not enough, all of them by
    one mark; and then its longest strings are cut.

    >>> fit({"id": "1", "properties": {"a": "x" * 99, "b": "y"}}, 64)
    {'id': '1', 'properties': {'a': '…[cut]', 'b': 'y'}}
    """
    size = _size(event)
    if size <= limit:
        return event
    event = dict(event)
    for field in _FURTHER:
        if size > limit and isinstance(event.get(field), dict):
            event[field] = _without_largest(event[field], size - limit)
            size = _size(event)
            if size > limit:
                event[field] = {CUT: CUT}
                size = _size(event)
    return event if size <= limit else _with_cut_strings(event, limit)


def _size(value: object) -> int:
    return len(_encode(value))


def _without_largest(fields: dict[str, Any], excess: int) -> dict[str, Any]:
    """Return the fields with as many of the largest replaced by a mark as free ``excess`` bytes."""
    fields = dict(fields)
    mark = _size(CUT)
    sizes = sorted(((_size(value), name) for name, value in fields.items()), reverse=True)
    for size, name in sizes:
        if excess <= 0 or size <= mark:
            break
        fields[name] = CUT
        excess -= size - mark
    return fields


def _with_cut_strings(event: dict[str, Any], limit: int) -> dict[str, Any]:
    length: Callable[[str], int] = lambda name: len(event[name])  # noqa: E731
    while _size(event) > limit:
        longest = max((name for name, value in event.items() if isinstance(value, str)), key=length)
        if len(event[longest]) <= _SHORTEST:
            break
        event[longest] = event[longest].removesuffix(CUT)[: len(event[longest]) // 2 - len(CUT)] + CUT
    return event
