"""This module shows what was found on the broker: a table of what is there, a line for each that is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rambla_py.cli.terminal import show, table, talk

__all__ = ["show_rows"]


def show_rows(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Print the named columns of the rows that are there to stdout, and every error to stderr."""
    there = [[_cell(row[name]) for name in names] for row in rows if row["there"]]
    if there:
        show(table(names, there, numbers=names[1:]))
    for row in rows:
        if row["error"]:
            talk().print(f"{names[0]} {row[names[0]]!r}: {row['error']}")


def _cell(value: Any) -> str:
    if value is None:
        return "?"
    return f"{value:,}" if isinstance(value, int) else str(value)
