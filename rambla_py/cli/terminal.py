"""Output: data to stdout, messages to stderr, colours and tables on a terminal."""

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
"""Width for files and pipes: nothing is cut or wrapped."""


def talk() -> Console:
    """Return a console on stderr; it respects ``NO_COLOR``."""
    return Console(
        stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else _ENDLESS
    )


def show(what: RenderableType) -> None:
    """Print a rich renderable to stdout."""
    console = Console(
        file=sys.stdout, highlight=False, markup=False, width=None if sys.stdout.isatty() else _ENDLESS
    )
    # Captured rather than printed: at a broken pipe rich would end the process with an error.
    with console.capture() as captured:
        console.print(what)
    text = captured.get()
    # Columns are padded with spaces, which a file does not need.
    show_text(text if console.is_terminal else re.sub(r" +$", "", text, flags=re.MULTILINE))


def show_json(data: Any) -> None:
    """Print one JSON document to stdout."""
    show_text(msgspec.json.format(msgspec.json.encode(data), indent=2).decode() + "\n")


def show_text(text: str) -> None:
    """Write to stdout; a reader that closes the pipe (``| head -1``) is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes again at exit, which would raise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def table(
    names: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Container[str] = (),
    cut: str | None = None,
) -> Table:
    """Return a table without lines between rows; columns among ``numbers`` are aligned to the right.

    Names are never wrapped or cut; on a narrow terminal the column ``cut`` is, by default the last one.
    """
    cells = [names, *rows]
    wide = len(names) - 1 if cut is None else names.index(cut)
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for at, name in enumerate(names):
        width = max(cell_len(row[at]) for row in cells)
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            # rich shrinks only columns that may wrap; the cells of this one are cut instead.
            no_wrap=at != wide,
            min_width=1 if at == wide else width,
        )
    for row in cells[1:]:
        shown: list[RenderableType] = list(row)
        shown[wide] = Text(row[wide], no_wrap=True, overflow="ellipsis")
        made.add_row(*shown)
    return made


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "message"), counted(2_000, "message"), counted(0, "delivery", "deliveries")
    ('1 message', '2,000 messages', '0 deliveries')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
