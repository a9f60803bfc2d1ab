"""This package holds the cases, by what they measure."""

from __future__ import annotations

from bench.case import Case
from bench.cases.null import NULL, ROUND_TRIP

__all__ = ["CASES"]

CASES: dict[str, Case] = {case.name: case for case in (NULL, ROUND_TRIP)}
