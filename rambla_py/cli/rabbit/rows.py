"""This module shows what was found on the broker: a table of what is there, a line for each that is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import typer

from rambla_py.cli import exits
from rambla_py.cli.terminal import show, show_json, table, talk

__all__ = ["show_status"]


def show_status(rows: Sequence[dict[str, Any]], names: Sequence[str], *, as_json: bool) -> NoReturn:
    """Print the rows and end the command, with 1 when one is not ``there``: as JSON, or the named columns.

    The columns of what is there go to stdout, every error to stderr.
    """
    if as_json:
        show_json(rows)
    else:
        _show_rows(rows, names)
    raise typer.Exit(exits.OK if all(row["there"] for row in rows) else exits.FAILED)


def _show_rows(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    # Of an exchange AMQP tells no more than that.
    told = [{"status": "there", **row} for row in rows if row["there"]]
    there = [[_cell(row[name]) for name in names] for row in told]
    if there:
        show(table(names, there, numbers=names[1:]))
    for row in rows:
        if row["error"]:
            talk().print(f"{names[0]} {row[names[0]]!r}: {row['error']}")


def _cell(value: Any) -> str:
    if value is None:
        return "?"
    return f"{value:,}" if isinstance(value, int) else str(value)
