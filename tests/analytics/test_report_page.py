"""The page and the terminal form of a report: what they show, and what they never let through."""

from __future__ import annotations

import datetime
import re
import sys
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from rambla_py.analytics.report import Report, render_page, terminal_report
from rambla_py.analytics.report.model import (
    Attempts,
    Calls,
    ErrorType,
    Paid,
    Payments,
    Process,
    Route,
    Traffic,
)

END = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)
BEGIN = END - datetime.timedelta(hours=1)
EMPTY = Report(BEGIN, END)
NASTY = '"><script>alert(1)</script>&{{7*7}}[bold red]\x1b[31m\x00\u202e\ud800\n'


def report_of(name: str) -> Report:
    """Return a report in which every text is this name."""
    routes = (Route(name, name, Traffic(7.0, (4.0, 0.0, 2.0, 1.0), 12.5, 80.0)),)
    return Report(
        BEGIN,
        END,
        total=routes[0].traffic,
        routes=routes,
        slowest=routes,
        errors=(ErrorType(name, 3.0, END),),
        payments=(Payments(name, name, Decimal("1234.5"), 2.0, 1.0),),
        paid=(Paid(name, Decimal("1234.5")), Paid("JPY", Decimal(900))),
        authentication=(Attempts(name, 1.0, 1.0),),
        mail=(Attempts(name, 1.0, 0.0),),
        calls=(Calls(name, 1.0, 0.0, None, 2.0),),
        processes=(Process(name, END, 1.5, 50_000_000, 2.0, None, 7, 0.5),),
    )


class _Reader(HTMLParser):
    """Elements, attributes and text of a page; raises for an element that is not closed in its order."""

    VOID = ("meta", "wbr")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def shown(report: Report, width: int = 120) -> str:
    """Return what a terminal without colours gets."""
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as captured:
        console.print(terminal_report(report))
    return captured.get()


def test_a_page_has_its_figures() -> None:
    """Tiles, three charts, and a table for each part, in which the figures of the charts are too."""
    page = render_page(report_of("GET"))
    words = " ".join(_Reader(page).text)
    for figure in (
        "7",
        "12.5 ms",
        "80.0 ms",
        "14.3 %",
        "1,234.50 GET",
        "900 JPY",
        "50.0 %",
        "48 MiB",
        "0.50",
    ):
        assert figure in words, figure
    assert page.count("<svg class=") == 3
    assert page.count("<table") == 8
    assert "2026-03-04, 11:00:00 to 12:00:00 UTC" in words
    assert "Last updated 2026-03-04 12:00:00 UTC" in words


def test_a_page_loads_nothing() -> None:
    """No script, no reference to anywhere, no inline handler; charts of pygal lose theirs."""
    for report in (EMPTY, report_of("/items/{id}")):
        page = render_page(report, refresh_s=10)
        read = _Reader(page)
        assert {"script", "link", "img", "iframe", "object", "a", "form"}.isdisjoint(read.tags)
        names = {name for name, _ in read.attributes}
        assert {"src", "href", "xlink:href", "action", "style"}.isdisjoint(names)
        assert not any(name.startswith("on") for name in names)
        assert not re.search(r"https?:|//|@import|url\(|javascript", page.replace("<!doctype html>", ""))
        assert len(page) < 100_000


def test_an_empty_page_has_rows_of_dashes() -> None:
    """Each table has one row, and no chart is drawn."""
    page = render_page(EMPTY)
    read = _Reader(page)
    assert "pygal-chart" not in [value for name, value in read.attributes if name == "class"]
    assert [text for text in read.text if text.strip() == "—"] == ["—"] * (6 + 4 + 3 + 4 + 4 + 4 + 5 + 7 + 4)
    assert "refresh" not in [value for name, value in read.attributes if name == "http-equiv"]


def test_texts_of_events_stay_texts_in_a_page() -> None:
    """Markup, templates and control characters are shown, and nothing of them is interpreted."""
    page = render_page(report_of(NASTY))
    read = _Reader(page)
    assert "script" not in read.tags
    words = "".join(read.text)
    assert "<script>alert(1)</script>&{{7*7}}" in words
    assert "\\x1b[31m\\x00\\u202e\\ud800\\n" in words
    assert not {"\x1b", "\x00", "\u202e", "\ud800"} & set(page)
    page.encode()


def test_texts_of_events_stay_texts_in_a_terminal() -> None:
    """Neither the markup of rich nor an escape sequence has an effect."""
    text = shown(report_of(NASTY), width=400)
    assert "[bold red]\\x1b[31m\\x00\\u202e\\ud800\\n" in text
    assert not {"\x1b", "\x00", "\u202e", "\ud800", "\r", "\x07"} & set(text)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_shown_safely(name: str) -> None:
    """No name makes a page with another structure, or one that cannot be encoded."""
    plain = _Reader(render_page(report_of("x")))
    read = _Reader(render_page(report_of(name)))
    lines = ("text", "wbr")
    assert [tag for tag in read.tags if tag not in lines] == [tag for tag in plain.tags if tag not in lines]
    assert all(char.isprintable() or char == "\n" for char in shown(report_of(name)))


def test_a_long_label_is_wrapped_and_never_cut_without_a_sign() -> None:
    """In the chart a label has at most three lines; the table has all of it."""
    path = "/" + "/".join(f"part{number:02}" for number in range(40))
    page = render_page(report_of(path))
    assert f'<th scope="row" class="text">{path} {path}</th>' in page.replace("<wbr>", "")
    labels = re.findall(r'<text class="label"[^>]*>([^<]*)</text>', page)
    assert all(len(label) <= 35 for label in labels)
    assert sum(label.endswith("…") for label in labels) == 3


def test_bars_have_the_lengths_of_their_figures() -> None:
    """Parts begin where the one before ends; the longest bar fills the width."""
    routes = (
        Route("GET", "/a", Traffic(200.0, (150.0, 0.0, 0.0, 50.0))),
        Route("GET", "/b", Traffic(50.0, (0.0, 0.0, 50.0, 0.0))),
    )
    page = render_page(Report(BEGIN, END, total=routes[0].traffic, routes=routes))
    rects = re.findall(r'<rect class="(color-\d)" x="([\d.]+)%" y="\d+" width="([\d.]+)%"', page)
    assert [(name, float(x), float(width)) for name, x, width in rects] == [
        ("color-0", 0.0, 75.0),
        ("color-3", 75.0, 25.0),
        ("color-2", 0.0, 25.0),
    ]
    assert "<title>GET /a: 50 x 5xx</title>" in page


def test_currencies_are_never_added_or_drawn_together() -> None:
    """Each currency has a line of its own in the tile, and no bar."""
    payments = tuple(
        Payments("charge", currency, Decimal(amount), 1.0, 0.0)
        for currency, amount in [("EUR", "1.5"), ("JPY", "1000"), ("KWD", "2"), ("USD", "99.999")]
    )
    paid = tuple(Paid(one.currency, one.amount) for one in payments)
    page = render_page(Report(BEGIN, END, payments=payments, paid=paid))
    assert "pygal-chart" not in page.split("</style>")[1]
    tile = page.split("<dt>Paid</dt>")[1].split("</div>")[0]
    assert re.findall(r"<dd[^>]*>([^<]+)</dd>", tile)[:4] == [
        "1.50 EUR",
        "1,000 JPY",
        "2.000 KWD",
        "99.999 USD",
    ]


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_of_any_width_is_kept_to(width: int) -> None:
    """No line is longer than the terminal."""
    text = shown(report_of("/items/{id}"), width)
    assert max(map(len, text.splitlines())) <= width


def test_the_terminal_shows_the_same_figures() -> None:
    """Tiles, tables, and a bar for each figure of a chart."""
    text = shown(report_of("x"))
    for figure in ("14.3 %", "1,234.50 x", "900 JPY", "48 MiB", "▒" * 14, "▓" * 6, "█" * 24):
        assert figure in text, figure
    assert "—" in shown(EMPTY)


def _estimated(report: Any) -> bool:
    return "≈" in render_page(report) and "estimates" in shown(report)


def test_estimates_are_marked() -> None:
    """Figures of sampled rows have a sign and a sentence; others have neither."""
    total = Traffic(10.0, (10.0, 0.0, 0.0, 0.0), 1.0, 2.0)
    assert _estimated(Report(BEGIN, END, estimated=True, total=total))
    assert "≈" not in render_page(Report(BEGIN, END, total=total))


def test_a_chart_leaves_no_import_hook_behind() -> None:
    """That of pygal would make each later import warn on Python 3.11."""
    render_page(report_of("x"))
    assert [hook for hook in sys.meta_path if not hasattr(hook, "find_spec")] == []
