"""The report as a page of HTML: one file without scripts and without references."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any, Final

from rambla_py.analytics.report.charts import bar_chart
from rambla_py.analytics.report.formats import period, span, stamp
from rambla_py.analytics.report.model import Report
from rambla_py.analytics.report.sections import Section, sections, tiles

__all__ = ["render_page"]

_COLUMNS: Final = 6
_FIGURE: Final = 13
"""Characters of a figure for which a narrow table has room: 123,456.78 EUR has one more."""
_BARS: Final = 10
"""More make a chart longer than a screen; the table below it has all."""


def render_page(report: Report, *, title: str = "Analytics", refresh_s: int | None = None) -> str:
    """Return a report as a page; with ``refresh_s``, browsers load it again after so many seconds.

    Whatever comes from events is escaped. The page has no script, loads nothing, follows the light or dark
    scheme of its reader, and is readable from a width of 375 px on. Needs the extra ``analytics``.

    >>> from rambla_py.analytics.report import report_of
    >>> page = render_page(report_of("sqlite:///missing.db"), refresh_s=10)
    >>> page.splitlines()[0], '<meta http-equiv="refresh" content="10">' in page
    ('<!doctype html>', True)
    """
    shown = [
        (
            section,
            bar_chart(
                section.bars[:_BARS], section.parts, about=f"{section.title}; figures in the table below"
            ),
            _is_wide(section),
        )
        for section in sections(report)
    ]
    page: str = _template().render(
        title=title,
        refresh_s=refresh_s,
        period=period(report),
        span=span(report),
        end=stamp(report.end),
        estimated=report.estimated,
        tiles=tiles(report),
        sections=shown,
    )
    return page


def _is_wide(section: Section) -> bool:
    """Return whether a table does not fit into 375 px: there, each of its cells has a line of its own."""
    figures = max((len(cell) for row in section.shown for cell in row[1:]), default=0)
    return len(section.columns) > _COLUMNS or figures > _FIGURE


@cache
def _template() -> Any:
    import jinja2  # of the extra, and only for a page

    text = files("rambla_py.analytics.report").joinpath("page.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["breakable"] = _breakable
    return environment.from_string(text)


def _breakable(name: str) -> str:
    """Return a name as markup that may be broken after each slash, for narrow columns."""
    import markupsafe  # of jinja2

    return markupsafe.escape(name).replace("/", markupsafe.Markup("/<wbr>"))
