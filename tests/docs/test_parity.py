"""``docs/parity.md`` ticks a row only with tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    line
    for line in (ROOT / "docs" / "parity.md").read_text().splitlines()
    if re.match(r"\| (✓ )?\| [A-Z]\d", line)
]
NAMED = sorted(
    {found for row in ROWS for found in re.findall(r"`((?:tests|rambla_py)/[^`]+\.py(?:::\w+)?)`", row)}
)


@cache
def names_in(path: Path) -> set[str]:
    """Return the names of a file's functions, and of what it assigns; it is read once for all rows."""
    tree = ast.parse(path.read_text())
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    return names | {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


@pytest.mark.parametrize("name", NAMED)
def test_every_test_that_a_row_names_exists(name: str) -> None:
    """A feature is not shown by a test that was renamed or removed."""
    path, _, test = name.partition("::")
    names = names_in(ROOT / path)
    assert not test or test in names


def test_a_ticked_row_names_a_test() -> None:
    """Every row names a test that exists."""
    ticked = [row for row in ROWS if row.startswith("| ✓")]
    assert len(ticked) > 20
    assert [row for row in ticked if "`tests/" not in row and "`rambla_py/testing/" not in row] == []
