"""``docs/guarantees.md``: the tables of cases, and the tests that show the rules."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

__all__ = ["PAGE", "RECIPES", "ROOT", "Row", "is_durable", "recipes", "rows", "shown_by"]

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
RECIPES = ROOT / "tests" / "live" / "recipes"

_ID = re.compile(r"\(\.\./tests/live/recipes/(\w+)\.py\)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::([\w:]+))?`")


class Row(NamedTuple):
    """One case of the table: ``all``, ``some`` or ``none`` of what was accepted, for each kind of end.

    ``left`` was not delivered, and no message of it is lost: dropped with an outcome, or on durable channels
    kept in the outbox.
    """

    delivered: str
    left: str
    lost: str


def rows() -> dict[str, Row]:
    """Return the cases of the table by id, in order."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|") and _ID.search(line)]
    found = [(_ID.findall(line)[0], line.split("|")[2:5]) for line in lines]
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), "a case stands twice"
    return {name: Row(*(cell.strip() for cell in cells)) for name, cells in found}


def is_durable(case: str) -> bool:
    """Return whether the channel of a recipe is durable."""
    return case.startswith("durable_")


def recipes() -> set[str]:
    """Return the names of the recipes; what begins with an underscore is shared among them."""
    return {path.stem for path in RECIPES.glob("*.py") if not path.stem.startswith("_")}


def shown_by() -> list[tuple[str, str]]:
    """Return each test that the page names, as file and name within it."""
    return sorted(set(_TEST.findall(PAGE.read_text())))
