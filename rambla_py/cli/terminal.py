"""This module writes: data to stdout, talk to stderr, in colours and tables where a person looks on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Container, Iterable, Sequence
from typing import Any, Final

import msgspec
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["counted", "show", "show_json", "show_text", "table", "talk"]

_ENDLESS: Final = 100_000
"""The width of what is no terminal: nothing is cut or wrapped on its way into a file or a pipe."""


def talk() -> Console:
    """Return a console on stderr, which honours ``NO_COLOR``."""
    return Console(
        stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else _ENDLESS
    )


def show(what: RenderableType) -> None:
    """Print something of rich's to stdout."""
    console = Console(
        file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else _ENDLESS
    )
    # Captured rather than printed: at a broken pipe rich would end the process with an error.
    with console.capture() as captured:
        console.print(what)
    text = captured.get()
    # Columns are filled with spaces, which are of use to nobody in a file.
    show_text(text if console.is_terminal else re.sub(r" +$", "", text, flags=re.MULTILINE))


def show_json(data: Any) -> None:
    """Print one JSON document to stdout."""
    show_text(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def show_text(text: str) -> None:
    """Write to stdout; a reader who has seen enough (``| head -1``) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more at its exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(names: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Container[str] = ()) -> Table:
    """Return a table without lines between rows; columns among ``numbers`` are aligned to the right.

    Names never wrap or lose their ends; where a terminal is too narrow it is the last column that gives way.
    """
    cells = [names, *rows]
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for at, name in enumerate(names):
        width = max(cell_len(row[at]) for row in cells)
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            # To rich a column that may wrap is one that may shrink; its cells are cut all the same.
            no_wrap=at < len(names) - 1,
            min_width=width if at < len(names) - 1 else 1,
        )
    for *first, last in cells[1:]:
        made.add_row(*first, Text(last, no_wrap=True, overflow="ellipsis"))
    return made


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "message"), counted(2_000, "message"), counted(0, "delivery", "deliveries")
    ('1 message', '2,000 messages', '0 deliveries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
