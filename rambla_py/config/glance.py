"""This module tells at a glance that a value has its declared type, where a glance is enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import inspect

__all__ = ["Glance", "glance"]


class Glance(NamedTuple):
    """Values of exactly this type, for which ``fits`` (where there is one) says yes, are right as they are.

    Of any other value nothing is known. With ``exact`` None every value has to be looked at.
    """

    exact: type | None = None
    fits: Callable[[Any], Any] | None = None


def glance(declared: Any) -> Glance:
    """Return the glance for a type.

    >>> from typing import Literal
    >>> seen = glance(Literal["normal", "high"] | None)
    >>> seen.exact, seen.fits("high"), seen.fits("low")
    (<class 'str'>, True, False)
    """
    info = _single(inspect.type_info(declared))
    if isinstance(info, inspect.BoolType):
        return Glance(bool)
    if isinstance(info, inspect.IntType | inspect.FloatType) and info.multiple_of is None:
        return _number(info)
    if isinstance(info, inspect.StrType) and info.pattern is None and info.max_length is None:
        return Glance(str, _longer(info.min_length) if info.min_length else None)
    if isinstance(info, inspect.LiteralType) and all(type(value) is str for value in info.values):
        return Glance(str, frozenset(info.values).__contains__)
    return Glance()


def _single(info: inspect.Type) -> inspect.Type | None:
    """Return the only type besides None."""
    if isinstance(info, inspect.Metadata):
        return _single(info.type)
    if not isinstance(info, inspect.UnionType):
        return info
    parts = [part for part in info.types if not isinstance(part, inspect.NoneType)]
    return _single(parts[0]) if len(parts) == 1 else None


def _number(info: inspect.IntType | inspect.FloatType) -> Glance:
    exact = int if isinstance(info, inspect.IntType) else float
    bounds = (info.ge, info.gt, info.le, info.lt)
    if exact is int and not any(bound is not None for bound in bounds):
        return Glance(int)
    low = max((bound for bound in bounds[:2] if bound is not None), default=-math.inf)
    high = min((bound for bound in bounds[2:] if bound is not None), default=math.inf)
    excluded = (info.gt, info.lt, math.inf, -math.inf)
    return Glance(exact, lambda value: low <= value <= high and value not in excluded)


def _longer(length: int) -> Callable[[str], bool]:
    return lambda value: len(value) >= length
