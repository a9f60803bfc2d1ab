"""``docs/guarantees.md`` names cases that are run and tests that exist."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import guarantees_page
import pytest
from guarantees_page import ROOT, Row

WORDS = {"all", "some", "none"}


def test_every_row_has_a_recipe_and_every_recipe_a_row() -> None:
    """No case of the table goes untested, and none that is tested is missing from it."""
    assert set(guarantees_page.rows()) == guarantees_page.recipes()


@pytest.mark.parametrize("row", guarantees_page.rows().values(), ids=guarantees_page.rows())
def test_a_row_says_how_much(row: Row) -> None:
    """Each cell is all, some or none, and together they leave nothing out."""
    assert set(row) <= WORDS
    assert "all" in row or list(row).count("some") > 1


@cache
def functions_in(path: Path) -> set[str]:
    """Return the names of a file's functions; it is read once for all rules."""
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("file", "name"), guarantees_page.shown_by())
def test_every_test_that_the_page_names_exists(file: str, name: str) -> None:
    """A rule is not shown by a test that was renamed or removed."""
    path = ROOT / file
    assert path.is_file()
    assert name in functions_in(path)


def test_every_rule_names_a_test() -> None:
    """Every rule names a test that exists."""
    text = guarantees_page.PAGE.read_text().split("## The rules")[1]
    rules = [line for line in text.splitlines() if line.startswith("| ") and "shown by" not in line]
    assert len(rules) > 30
    assert [line for line in rules if "`tests/" not in line] == []
