"""Bar charts in SVG, for a page that has their colours and fonts in its style sheet."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final
from xml.etree import ElementTree as Xml

from rambla_py.analytics.report.sections import Bar

__all__ = ["bar_chart"]

_WIDTH: Final = 1_000
"""Of the plot as pygal computes it; the page stretches it to the width of its column."""
_LINE: Final = 18
_BAR: Final = 10
_GAP: Final = 14
_LINE_LENGTH: Final = 34
"""Characters of a label in a line: what fits beside a figure at 375 px."""
_LINES: Final = 3
_LEAST_PERCENT: Final = 0.5
"""Narrower parts of a bar would not be visible."""


def bar_chart(bars: Sequence[Bar], names: Sequence[str], *, about: str) -> str:
    """Return a chart of horizontal bars as one ``<svg>`` element; an empty string if there are none.

    Parts have the class ``color-N`` of their place in ``names``. The chart has no script, no style, no
    reference, and fixed sizes of text: only the bars are as wide as the place for them. Labels are wrapped.
    All text must be printable. Needs pygal, of the extra ``analytics``.

    >>> print(bar_chart([Bar("GET <a>", "12", ((12.0, "12 requests"),))], ["all"], about="Requests"))
    ... # doctest: +ELLIPSIS
    <svg class="pygal-chart" ...<text class="label" x="0" y="13">GET &lt;a&gt;</text>...
    """
    if not any(value > 0 for bar in bars for value, _ in bar.parts):
        return ""
    rectangles = _rectangles(bars, names)
    svg = Xml.Element("svg", {"class": "pygal-chart", "role": "img", "aria-label": about, "width": "100%"})
    top = 0
    for at, bar in enumerate(bars):
        top = _draw(svg, bar, [series[at] for series in rectangles], top)
    svg.set("height", str(top - _GAP + 2))
    return Xml.tostring(svg, encoding="unicode")


def _rectangles(bars: Sequence[Bar], names: Sequence[str]) -> list[list[tuple[float, float]]]:
    """Return begin and width of each part in percent, by series and bar, as pygal scales and stacks them."""
    chart = _pygal().HorizontalStackedBar(
        js=[],
        width=_WIDTH,
        height=_WIDTH,
        margin=0,
        truncate_label=-1,
        show_legend=False,
        show_x_labels=False,
        show_y_labels=False,
        max_scale=2,
    )
    chart.x_labels = [bar.label for bar in bars]
    for at, name in enumerate(names):
        chart.add(name, [bar.parts[at][0] for bar in bars])
    found = [_of_series(series) for series in _with_class(chart.render_tree(), "series") if len(series)]
    least = min(begin for series in found for begin, _ in series)
    most = max(begin + width for series in found for begin, width in series) - least
    return [
        [((begin - least) * 100 / most, width * 100 / most) for begin, width in series] for series in found
    ]


def _pygal() -> Any:
    """Import pygal, of the extra, without the import hook of its map plug-ins.

    The hook has no ``find_spec``: on Python 3.11 each later import of the process would warn of it.
    """
    ours = "pygal" not in sys.modules
    import pygal

    if ours:
        sys.meta_path[:] = [
            finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)
        ]
    return pygal


def _with_class(tree: Any, name: str) -> list[Any]:
    return [node for node in tree.iter() if name in (node.get("class") or "").split()]


def _of_series(series: Any) -> list[tuple[float, float]]:
    return [(float(one.get("x")), float(one.get("width") or 0)) for one in _with_class(series, "rect")]


def _draw(svg: Xml.Element, bar: Bar, places: Sequence[tuple[float, float]], top: int) -> int:
    """Draw a bar below its label; return where the next one begins."""
    group = Xml.SubElement(svg, "g")
    Xml.SubElement(group, "title").text = f"{bar.label}: {bar.figure}"
    for number, line in enumerate(_lines(bar.label)):
        Xml.SubElement(
            group, "text", {"class": "label", "x": "0", "y": str(top + 13 + number * _LINE)}
        ).text = line
        bottom = top + (number + 1) * _LINE
    Xml.SubElement(group, "text", {"class": "figure", "x": "100%", "y": str(top + 13)}).text = bar.figure
    for at, ((value, hint), (begin, width)) in enumerate(zip(bar.parts, places, strict=True)):
        if value > 0:
            wide = max(width, _LEAST_PERCENT)
            place = {
                "x": f"{min(begin, 100 - wide):.2f}%",
                "y": str(bottom),
                "width": f"{wide:.2f}%",
                "height": str(_BAR),
            }
            part = Xml.SubElement(group, "rect", {"class": f"color-{at}", **place})
            Xml.SubElement(part, "title").text = f"{bar.label}: {hint}"
    return bottom + _BAR + _GAP


def _lines(label: str) -> list[str]:
    """Return a label in lines, broken after a slash or a space if there is one in their second half.

    The last line ends with an ellipsis if there are too many.

    >>> _lines("GET /organisations/{organisation_id}/members")
    ['GET /organisations/', '{organisation_id}/members']
    >>> _lines("GET /" + "a" * 40)
    ['GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'aaaaaaaaaaa']
    """
    lines = []
    while len(label) > _LINE_LENGTH:
        part = label[:_LINE_LENGTH]
        end = max(part.rfind("/"), part.rfind(" ")) + 1
        lines.append(label[: end if end > _LINE_LENGTH // 2 else _LINE_LENGTH])
        label = label[len(lines[-1]) :]
    lines.append(label)
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], lines[_LINES - 1][:-1] + "…"]
