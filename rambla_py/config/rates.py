"""Rates such as ``100/s``."""

from __future__ import annotations

import re

__all__ = ["rate_per_s"]

_RATE = re.compile(r"\s*(?P<count>\d+(?:\.\d+)?)\s*/\s*(?P<unit>s|min|h)\s*", re.ASCII)
_SECONDS = {"s": 1, "min": 60, "h": 3600}


def rate_per_s(text: str) -> float:
    """Return a rate as a number per second; raises ``ValueError``.

    >>> rate_per_s("100/s"), rate_per_s("30/min")
    (100.0, 0.5)
    """
    found = _RATE.fullmatch(text)
    rate = float(found["count"]) / _SECONDS[found["unit"]] if found else 0.0
    if rate <= 0:
        raise ValueError(f"{text!r} is not a rate like '100/s', '5/min' or '1000/h'")
    return rate
