"""The shop's page of analytics in Chromium, which can reach nothing but the shop."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from server_fixtures import require
from shop_server import Chromium, ShopServer

from rambla_py.analytics.report import Report, render_page
from rambla_py.analytics.report.model import Paid, Payments

WIDTHS = [375, 1024, 1440]
ORDER = {"user": "ada", "product": 2, "card": "4111 1111 1111 1111"}
LONG = "/products/" + "a-path-that-no-route-takes/" * 9


@pytest.fixture(scope="module")
def busy_shop(shop: ShopServer) -> ShopServer:
    """The shop with some events of each kind."""
    for currency in ("EUR", "USD", "JPY"):
        shop.post("/payments", {**ORDER, "currency": currency})
        shop.get(f"/products/1?currency={currency}")
    for path in ("/broken", "/broken", LONG, "/products", "/products"):
        shop.get(path)
    shop.post("/login", {"user": "grace", "password": "wrong"})
    shop.wait_for("api_events", 3 * 3 + 5 + 2 + 1)
    shop.wait_for("payment_events", 3)
    return shop


# One for the module: while Playwright runs, its thread has an event loop, which other tests would meet.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for which no name resolves."""
    require(Chromium)
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=Chromium.PROGRAM, args=[rules, "--no-sandbox"])
        yield started
        started.close()


class Opened(NamedTuple):
    """The page, with what it said to the console, and what it asked for."""

    page: Page
    console: list[str]
    asked: list[str]


@pytest.fixture(params=WIDTHS)
def opened(request: pytest.FixtureRequest, busy_shop: ShopServer, browser: Browser) -> Iterator[Opened]:
    """The page of the shop at each of the widths."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    opened = Opened(page, [], [])
    page.on("console", lambda message: opened.console.append(message.text))
    page.on("pageerror", lambda error: opened.console.append(str(error)))
    page.on("request", lambda asked: opened.asked.append(asked.url))
    page.goto(f"{busy_shop.url}/analytics")
    yield opened
    page.close()


def test_the_page_is_as_wide_as_the_window(opened: Opened) -> None:
    """Nothing scrolls to the side, no table either, and no text of a chart is cut; the console is silent."""
    page = opened.page
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") == width
    hidden = "elements => elements.map(e => e.scrollWidth - e.clientWidth).filter(n => n > 0)"
    assert page.eval_on_selector_all(".scroll", hidden) == []
    cut = "elements => elements.filter(e => e.getBBox().x < 0).map(e => e.textContent)"
    assert page.eval_on_selector_all("svg text", cut) == []
    overlapping = """groups => groups.filter(group => {
        const [label, figure] = ['.label', '.figure'].map(one => group.querySelector(one).getBoundingClientRect());
        return label.right > figure.left;
    }).map(group => group.textContent)"""
    assert page.eval_on_selector_all(".pygal-chart > g", overlapping) == []
    assert opened.console == []
    assert {url.rsplit("/", 1)[1] for url in opened.asked} <= {"analytics", "favicon.ico"}


@pytest.mark.parametrize("width", [375, 600, 1024])
def test_large_sums_are_whole(browser: Browser, width: int) -> None:
    """A table that they make too wide has a line for each cell, and their tile is as wide as they are."""
    end = datetime.datetime(2026, 3, 4, tzinfo=datetime.UTC)
    sum_ = Decimal("987654321.12")
    report = Report(
        end,
        end,
        payments=(Payments("charge", "EUR", sum_, 1.0, 0.0),),
        paid=(Paid("EUR", sum_), Paid("GBP", sum_)),
    )
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_content(render_page(report))
    hidden = "elements => elements.map(e => e.scrollWidth - e.clientWidth).filter(n => n > 0)"
    assert page.eval_on_selector_all(".scroll, .tile, html", hidden) == []
    height = page.locator("dd.several").first.evaluate("e => e.getBoundingClientRect().height")
    assert height < 30  # one line of 18 px
    page.close()


def test_sections_have_one_column_on_a_telephone_and_two_on_a_screen(opened: Opened) -> None:
    """From 900 px on there are two."""
    lefts = "sections => sections.map(section => Math.round(section.getBoundingClientRect().left))"
    columns = set(opened.page.eval_on_selector_all("section", lefts))
    width = opened.page.viewport_size["width"] if opened.page.viewport_size else 0
    assert len(columns) == (2 if width >= 900 else 1)


def test_tiles_show_what_the_database_holds(busy_shop: ShopServer, browser: Browser) -> None:
    """Requests, percentiles, error share and the sums of three currencies, computed here from the rows."""
    page = browser.new_page()
    page.goto(f"{busy_shop.url}/analytics")
    tiles = {
        tile.locator("dt").inner_text(): tile.locator("dd.value").all_inner_texts()
        for tile in page.locator(".tile").all()
    }
    page.close()
    expected = busy_shop.expected()
    assert tiles["Requests"] == [str(expected.requests)]
    for name, measured in (("Median", expected.p50_ms), ("95th percentile", expected.p95_ms)):
        figure, unit = tiles[name][0].split()
        scale = {"ms": 1, "s": 1_000}[unit]
        half = 0.5 * 10 ** -len(figure.partition(".")[2]) * scale
        assert float(figure.replace(",", "")) * scale == pytest.approx(measured, rel=0.01, abs=half)
    assert tiles["Error share"] == [f"{expected.error_share * 100:.1f} %"]
    assert tiles["Paid"] == ["34.00 EUR", "5,440 JPY", "37.40 USD"]
    assert {name: f"{amount:,}" for name, amount in expected.paid.items()} == {
        line.split()[1]: line.split()[0] for line in tiles["Paid"]
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme(
    scheme: str, busy_shop: ShopServer, browser: Browser, tmp_path: Path
) -> None:
    """Text has a contrast of at least 4.5 to its card in both schemes."""
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]  # one of the two
    page.goto(f"{busy_shop.url}/analytics")
    colour = "element => getComputedStyle(element).getPropertyValue('{}')"
    card = page.locator("section").first.evaluate(colour.format("background-color"))
    for selector in ("section h2", "thead th", "tbody td", ".tile dt", ".tile dd.value"):
        text = page.locator(selector).first.evaluate(colour.format("color"))
        assert _contrast(text, card) >= 4.5, (selector, text, card)
    assert (_luminance(card) < 0.5) == (scheme == "dark")
    page.close()


def _luminance(rgb: str) -> float:
    """Return the relative luminance of WCAG for ``rgb(r, g, b)``."""
    parts = [int(part) / 255 for part in rgb.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
