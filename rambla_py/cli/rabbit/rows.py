"""Tables of what was found on the broker, with a line for each name that is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from rambla_py.cli import exit_codes
from rambla_py.cli.terminal import show, show_json, table, talk

__all__ = ["show_status"]


def show_status(rows: Sequence[dict[str, Any]], names: Sequence[str], *, as_json: bool) -> NoReturn:
    """Print the rows as JSON or columns and exit, with 1 when one is not ``there``.

    What exists goes to stdout, errors go to stderr.
    """
    if as_json:
        show_json(rows)
    else:
        _show_rows(rows, names)
    raise typer.Exit(exit_codes.OK if all(row["there"] for row in rows) else exit_codes.FAILED)


def _show_rows(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    # AMQP reports only that an exchange exists.
    existing = [{"status": "exists", **row} for row in rows if row["there"]]
    there = [[_cell(row[name]) for name in names] for row in existing]
    if there:
        show(table(names, there, numbers=names[1:]))
    for row in rows:
        if row["error"]:
            talk().print(f"{names[0]} {row[names[0]]!r}: {row['error']}")


def _cell(value: Any) -> str:
    if value is None:
        return "?"
    return f"{value:,}" if isinstance(value, int) else str(value)
