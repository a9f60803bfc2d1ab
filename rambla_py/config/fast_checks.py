"""Fast type checks for the common cases, derived from declared types."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import inspect

__all__ = ["FastCheck", "fast_check"]


class FastCheck(NamedTuple):
    """Values of exactly the type ``exact`` that ``fits`` accepts (None: all) need no further check.

    All other values do; with ``exact`` None, every value does.
    """

    exact: type | None = None
    fits: Callable[[Any], Any] | None = None


def fast_check(declared: Any) -> FastCheck:
    """Return the fast check for a type.

    >>> from typing import Literal
    >>> check = fast_check(Literal["normal", "high"] | None)
    >>> check.exact, check.fits("high"), check.fits("low")
    (<class 'str'>, True, False)
    """
    info = _single(inspect.type_info(declared))
    if isinstance(info, inspect.BoolType):
        return FastCheck(bool)
    if isinstance(info, inspect.IntType | inspect.FloatType) and info.multiple_of is None:
        return _number(info)
    if isinstance(info, inspect.StrType) and info.pattern is None and info.max_length is None:
        return FastCheck(str, _longer(info.min_length) if info.min_length else None)
    if isinstance(info, inspect.LiteralType) and all(type(value) is str for value in info.values):
        return FastCheck(str, frozenset(info.values).__contains__)
    return FastCheck()


def _single(info: inspect.Type) -> inspect.Type | None:
    """Return the only type besides None."""
    if isinstance(info, inspect.Metadata):
        return _single(info.type)
    if not isinstance(info, inspect.UnionType):
        return info
    parts = [part for part in info.types if not isinstance(part, inspect.NoneType)]
    return _single(parts[0]) if len(parts) == 1 else None


def _number(info: inspect.IntType | inspect.FloatType) -> FastCheck:
    exact = int if isinstance(info, inspect.IntType) else float
    bounds = (info.ge, info.gt, info.le, info.lt)
    if exact is int and not any(bound is not None for bound in bounds):
        return FastCheck(int)
    low = max((bound for bound in bounds[:2] if bound is not None), default=-math.inf)
    high = min((bound for bound in bounds[2:] if bound is not None), default=math.inf)
    excluded = (info.gt, info.lt, math.inf, -math.inf)
    return FastCheck(exact, lambda value: low <= value <= high and value not in excluded)


def _longer(length: int) -> Callable[[str], bool]:
    return lambda value: len(value) >= length
