"""The operations page in Chromium."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from server_fixtures import require
from shop_server import Chromium
from small_apps import one, probe, running, service, table, until

from rambla_py import AccessError, MailboxFullError, PermanentError, Rambla
from rambla_py.web.page import page as page_of

ODD = "<img src=x onerror=alert(1)>"
WAIT_MS = 60_000


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """The page, which must say nothing to the console."""
    said: list[str] = []
    page = browser.new_page(**options)
    page.set_default_timeout(WAIT_MS)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("console", lambda message: said.append(message.text))
    page.goto(url)
    page.wait_for_selector("tr.target, td.empty")
    yield page
    page.close()
    assert [text for text in said if "Failed to load resource" not in text] == []


def refuse_login(self: Any) -> None:
    raise AccessError("the login of 'shop' was refused")


def refuse_row(message: Any) -> None:
    raise PermanentError(f"row {message.payload} of {ODD}")


@pytest.fixture(scope="module")
def four() -> Iterator[Rambla]:
    """An app with four targets: one down, one full, one with failures, one with an odd name."""
    gate = threading.Event()
    waiting = probe(lambda message: gate.wait(600) and None)
    config = {
        "ledger": service(probe(lambda message: None, connect=refuse_login), orders={}),
        "audit": service(
            waiting, orders={"max_pending": 1, "batch_size": 1, "overflow": "raise", "attempt_timeout_s": 600}
        ),
        "rows": service(probe(refuse_row), orders={"options": {"retries": 0}}),
        "odd": service(probe(lambda message: None), **{ODD: {}}),
        "rambla": {"telemetry": {"name": "shop"}},
    }
    with running(config, gate, stop_s=0.1) as app:
        app.publish("ledger.orders", "x")
        app.publish("audit.orders", "taken")
        assert until(lambda: app.status()["audit.orders"].in_flight == 1)
        app.publish("audit.orders", "waits")
        with pytest.raises(MailboxFullError):
            app.publish("audit.orders", "refused")
        one(app, 17, channel="rows.orders")
        one(app, "x", channel=ODD)
        assert until(lambda: app.status()["ledger.orders"].state == "down")
        yield app


@pytest.fixture(scope="module")
def thousand() -> Iterator[Rambla]:
    """An app with so many targets."""
    channels: dict[str, Any] = {f"channel{number:04}": {} for number in range(1000)}
    with running({"probe": service(probe(lambda message: None), **channels)}) as app:
        yield app


@pytest.fixture(scope="module")
def dying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rambla]:
    """An app with an outbox, and a dead letter in it."""
    outbox = {"url": f"sqlite:///{tmp_path_factory.mktemp('outbox')}/outbox.db"}
    durable = table(probe(refuse_row), {"retries": 0}, durable=True)
    with running(durable | {"rambla": {"outbox": outbox}}) as app:
        one(app, 17)
        yield app


# While Playwright runs, its thread has an event loop, in which the apps could not stop: they outlive it.
@pytest.fixture(scope="module")
def browser(four: Rambla, thousand: Rambla, dying: Rambla) -> Iterator[Browser]:
    """Chromium, for which no name resolves."""
    require(Chromium)
    rules = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=Chromium.PROGRAM, args=[rules, "--no-sandbox"])
        yield started
        started.close()


def names(page: Page) -> list[str]:
    return page.eval_on_selector_all("tr.target td.name", "cells => cells.map(cell => cell.textContent)")


def test_the_worst_target_is_first(four: Rambla, serve: Callable[[Rambla], Any], browser: Browser) -> None:
    """Down, full, failing, the rest; a name that looks like HTML is text, and so is an error."""
    with opened(browser, serve(four).url) as page:
        assert names(page) == ["ledger.orders", "audit.orders", "rows.orders", f"odd.{ODD}"]
        states = page.eval_on_selector_all(
            "tr.target td.state", "cells => cells.map(cell => cell.textContent)"
        )
        assert states[0].startswith("▲ down")
        assert states[1].startswith("● up, full")
        errors = page.eval_on_selector_all("tr.target td.error", "cells => cells.map(cell => cell.innerText)")
        assert "the login of 'shop' was refused" in errors[0]
        assert page.inner_text("#title") == "shop"
        assert [page.inner_text(f"#{one}") for one in ("lost", "waiting", "refused")] == ["1", "2", "1"]
        assert page.text_content("#alarm") == "Down: ledger.orders"
        page.wait_for_selector("#failures td.sample")
        assert page.inner_text("#failures td.sample") == f"PermanentError: row 17 of {ODD}"
        assert page.query_selector("img") is None


def test_keys(four: Rambla, serve: Callable[[Rambla], Any], browser: Browser) -> None:
    """Filter, move, open, close, sort, pause, theme and help without a mouse."""
    with opened(browser, serve(four).url) as page:
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        assert "limit of waiting" in page.inner_text("tr.detail")
        page.keyboard.press("Escape")
        assert page.query_selector("tr.detail") is None
        page.keyboard.press("/")
        page.keyboard.type("down")
        assert names(page) == ["ledger.orders"]
        page.keyboard.press("Escape")
        assert len(names(page)) == 4
        page.keyboard.press("s")
        assert names(page)[0] == "audit.orders"
        page.keyboard.press("d")
        assert page.evaluate("document.documentElement.style.colorScheme") == "dark"
        page.keyboard.press("Space")
        assert page.inner_text("#notice").startswith("Paused.")
        page.keyboard.press("?")
        assert page.is_visible("#help")


def test_a_stopped_server_shows(four: Rambla, serve: Callable[[Rambla], Any], browser: Browser) -> None:
    """The page says since when its figures are old."""
    served = serve(four)
    with opened(browser, served.url) as page:
        served.stop()
        page.wait_for_selector("#notice:has-text('the server does not answer')")
        assert re.match(r"These figures are from \d\d:\d\d:\d\d, ", page.inner_text("#notice"))


@pytest.mark.parametrize("width", [375, 1280])
def test_it_is_as_wide_as_the_window(
    four: Rambla, serve: Callable[[Rambla], Any], browser: Browser, width: int
) -> None:
    """Nothing scrolls to the side, nor does the table, at twice the size of text either."""
    with opened(browser, serve(four).url, viewport={"width": width, "height": 800}) as page:
        page.wait_for_selector("#failures td.sample")
        assert page.evaluate("document.documentElement.scrollWidth") == width
        wider = "frames => frames.filter(frame => frame.scrollWidth > frame.clientWidth).length"
        assert page.eval_on_selector_all(".frame", wider) == 0


def test_a_thousand_targets_are_not_all_drawn(
    thousand: Rambla, serve: Callable[[Rambla], Any], browser: Browser
) -> None:
    """The first hundred are, and more on request; the filter finds every one."""
    with opened(browser, serve(thousand).url) as page:
        assert len(names(page)) == 100
        page.evaluate(
            "[...document.querySelectorAll('button')].find(one => one.textContent === 'Show 100 more').click()"
        )
        assert len(names(page)) == 200
        page.fill("#filter", "channel0999")
        assert names(page) == ["probe.channel0999"]


def test_it_is_one_small_file() -> None:
    """Without anything from elsewhere, and with no way for data to become HTML."""
    text = files("rambla_py.web").joinpath("page.html").read_text("utf-8")
    assert len(text.encode()) <= 40 * 1024
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text) == []
    assert re.findall(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert page_of().policy.count("sha256-") == 2


def test_an_app_without_targets(serve: Callable[[Rambla], Any], browser: Browser) -> None:
    """Before the start the page says so."""
    with opened(browser, serve(Rambla(table(probe(lambda message: None)))).url) as page:
        assert "not started" in page.inner_text("td.empty >> nth=0")


def test_dead_letters_are_shown_with_the_command_that_replays_them(
    browser: Browser, serve: Callable[[Rambla], Any], dying: Rambla, four: Rambla
) -> None:
    """Their errors are text; without an outbox there is no such table."""
    with opened(browser, serve(dying).url) as page:
        cells = page.locator("#dead tbody tr td")
        cells.first.wait_for()
        assert cells.nth(1).inner_text() == "probe.orders"
        assert ODD in cells.nth(2).inner_text()
        assert re.fullmatch(r"rambla dead replay --group \w+", cells.nth(5).inner_text())
    with opened(browser, serve(four).url) as page:
        assert page.locator("#dead").is_hidden()
