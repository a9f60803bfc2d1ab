"""The report as tables of a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rambla_py.analytics.report.formats import period, span
from rambla_py.analytics.report.model import Report
from rambla_py.analytics.report.sections import Bar, Section, sections, tiles

__all__ = ["terminal_report"]

_BAR_CELLS: Final = 24
_COLORS: Final = {"2xx": "cyan", "3xx": "bright_black", "4xx": "yellow", "5xx": "red", "errors": "red"}
_GLYPHS: Final = {"2xx": "▒", "3xx": "░", "4xx": "▓", "5xx": "█"}
"""Different ones, for terminals and files without colours."""


def terminal_report(report: Report) -> RenderableType:
    """Return the report for ``rich.console.Console.print``.

    Texts of events are no markup, and control characters in them are escaped.
    """
    blocks: list[RenderableType] = [_head(report), Text(), _tiles(report)]
    for section in sections(report):
        blocks += [Text(), Text(section.title, style="bold"), _table(section)]
    return Group(*blocks)


def _head(report: Report) -> Text:
    head = Text(f"Analytics, {period(report)}", style="bold")
    head.append(f"   {span(report)}", style="dim not bold")
    if report.estimated:
        head.append("\nSome events were sampled: their counts and sums are estimates.", style="dim not bold")
    return head


def _tiles(report: Report) -> Table:
    made = Table(box=SIMPLE_HEAD, padding=(0, 3, 0, 0), pad_edge=False, show_edge=False)
    shown = tiles(report)
    for tile in shown:
        several = len(tile.lines) > 1
        made.add_column(Text(tile.label), overflow="fold", justify="right" if several else "left")
    made.add_row(*[Text("\n").join(Text(line, style="bold") for line in tile.lines) for tile in shown])
    return made


def _table(section: Section) -> Table:
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for at, name in enumerate(section.columns):
        is_text = at == 0
        made.add_column(
            Text(name),
            justify="left" if is_text else "right",
            no_wrap=not is_text,
            overflow="fold",
        )
    if section.bars:
        made.add_column(_legend(section.parts), no_wrap=True)
    longest = max((sum(value for value, _ in bar.parts) for bar in section.bars), default=0.0)
    for at, row in enumerate(section.shown):
        cells: list[RenderableType] = [Text(cell) for cell in row]
        if at < len(section.bars):
            cells.append(_bar(section.bars[at], section.parts, longest))
        made.add_row(*cells)
    return made


def _bar(bar: Bar, names: Sequence[str], longest: float) -> Text:
    """Return a bar of whole cells: at least one for each part that is not zero."""
    drawn = Text()
    for name, (value, _) in zip(names, bar.parts, strict=True):
        if value > 0 and longest:
            cells = max(1, round(value / longest * _BAR_CELLS))
            drawn.append(_glyph(name) * cells, style=_COLORS.get(name, "cyan"))
    return drawn


def _legend(names: Sequence[str]) -> Text:
    if len(names) == 1:
        return Text()
    return Text(" ").join(Text(f"{_glyph(name)} {name}", style=_COLORS.get(name, "")) for name in names)


def _glyph(name: str) -> str:
    return _GLYPHS.get(name, "█")
