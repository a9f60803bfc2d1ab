"""Durations: the type of options and settings, and the check of ``timeout_s`` arguments."""

from __future__ import annotations

import enum
import math
import re
import time
from typing import Any, Final

from msgspec import Meta

from rambla_py.errors import OptionError

__all__ = ["DEFAULT", "LONGEST_S", "Default", "duration", "seconds_left", "seconds_of", "time_limit"]

LONGEST_S: Final = 1e9
"""The longest duration that a call takes, in seconds; beyond it, ``None`` and ``inf`` mean no limit."""


def duration(description: str, **constraints: Any) -> Meta:
    """Return the constraints of an option or a setting in seconds: 0 to 10^9, never NaN or infinite.

    >>> from typing import Annotated
    >>> from msgspec import convert
    >>> convert(1.5, Annotated[float, duration("longest wait", gt=0)])
    1.5
    """
    lowest = {} if "gt" in constraints or "ge" in constraints else {"ge": 0}
    return Meta(**{"le": LONGEST_S, **lowest, **constraints}, description=description)


_WRITTEN: Final = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,9})?)\s*(?P<unit>[smhdw]?)", re.ASCII)
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def seconds_of(text: str) -> float:
    """Return a duration that a person wrote, as ``90s``, ``15m``, ``1h``, ``7d`` or ``2w``, in seconds.

    Raises ``ValueError`` for anything else, for 0, and for more than 10^9 seconds.

    >>> seconds_of("1h"), seconds_of("1.5d"), seconds_of("30")
    (3600.0, 129600.0, 30.0)
    """
    found = _WRITTEN.fullmatch(text.strip().lower())
    seconds = float(found["number"]) * _UNITS[found["unit"]] if found else 0.0
    if not 0 < seconds <= LONGEST_S:
        raise ValueError(f"expected a duration such as 90s, 15m, 1h, 7d or 2w; got {text!r}")
    return seconds


class Default(enum.Enum):
    """The type of ``DEFAULT``."""

    DEFAULT = "[rambla] result_timeout_s"

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT: Final = Default.DEFAULT
"""Stands in a signature for a time that the configuration sets."""


def time_limit(timeout_s: object, name: str = "timeout_s") -> float:
    """Return a time limit in seconds, infinite for None; raises ``OptionError`` for anything else.

    >>> time_limit(5), time_limit(None)
    (5.0, inf)
    """
    if timeout_s is None:
        return math.inf
    number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    if number and (timeout_s == math.inf or 0 <= timeout_s <= LONGEST_S):  # type: ignore[operator]  # a number
        return float(timeout_s)  # type: ignore[arg-type]  # a number
    got = repr(timeout_s) if number else type(timeout_s).__name__
    raise OptionError(name, f"expected seconds from 0 to 1e9, inf or None, got {got}")


def seconds_left(deadline: float) -> float:
    """Return how long it is until a deadline, as a number that threads and locks can wait for."""
    return min(LONGEST_S, max(0.0, deadline - time.monotonic()))
