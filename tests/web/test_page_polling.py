"""When the operations page asks for figures: with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright
from server_fixtures import require
from shop_server import Chromium
from small_apps import probe, running, table, until

from rambla_py import Rambla

SECOND_MS = 1_000


class Asked:
    """Counts what the page asks for; answers are those of the server unless ``hold`` or ``fail`` is set."""

    def __init__(self, page: Page) -> None:
        self.number = 0
        self.hold = self.fail = False
        self._held: list[Route] = []
        page.route("**/status.json", self._on_request)

    def _on_request(self, route: Route) -> None:
        self.number += 1
        if self.fail:
            route.abort()
        elif self.hold:
            self._held.append(route)
        else:
            route.continue_()

    def release(self) -> None:
        """Answer what is held."""
        self.hold = False
        while self._held:
            self._held.pop().continue_()


@pytest.fixture(scope="module")
def app() -> Iterator[Rambla]:
    with running(table(probe(lambda message: None))) as made:
        yield made


@pytest.fixture(scope="module")
def browser(app: Rambla) -> Iterator[Browser]:
    require(Chromium)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=Chromium.PROGRAM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, app: Rambla, serve: Callable[[Rambla], Any]) -> Iterator[Page]:
    """The page of an app, with a clock that stands still between two requests."""
    made = browser.new_page()
    made.clock.install(time=datetime(2026, 1, 1, tzinfo=UTC))
    made.goto(serve(app).url)
    made.wait_for_selector("tr.target")
    made.clock.pause_at(datetime(2026, 1, 1, 1, tzinfo=UTC))
    settle(made)
    yield made
    made.close()


def settle(page: Page) -> None:
    """Wait until the page has its answer, or its error."""
    assert until(lambda: not page.evaluate("busy"))


def after(page: Page, asked: Asked, seconds: int) -> int:
    """Return how often the page asks in so many seconds."""
    before = asked.number
    for _ in range(seconds):
        page.clock.run_for(SECOND_MS)
        if not asked.hold:
            settle(page)
    return asked.number - before


def test_it_asks_once_a_second_unless_paused(page: Page) -> None:
    """While paused it asks for nothing, and goes on at once afterwards."""
    asked = Asked(page)
    assert after(page, asked, 5) == 5
    page.keyboard.press("Space")
    assert after(page, asked, 5) == 0
    page.keyboard.press("Space")
    settle(page)
    assert asked.number == 6
    assert after(page, asked, 2) == 2


def test_a_page_that_is_hidden_asks_for_nothing(page: Page) -> None:
    """Until it is visible again."""
    asked = Asked(page)
    page.evaluate(
        "Object.defineProperty(document, 'hidden', { get: () => window.isHidden, configurable: true })"
    )
    change = "hidden => { isHidden = hidden; document.dispatchEvent(new Event('visibilitychange')) }"
    page.evaluate(change, True)
    assert after(page, asked, 5) == 0
    page.evaluate(change, False)
    settle(page)
    assert asked.number == 1


def test_it_waits_for_an_answer_before_it_asks_again(page: Page) -> None:
    """A slow server does not get more to do."""
    asked = Asked(page)
    asked.hold = True
    assert after(page, asked, 8) == 1
    page.keyboard.press("Space")
    page.keyboard.press("Space")
    assert asked.number == 1
    asked.release()
    settle(page)
    assert after(page, asked, 1) == 1


def test_it_backs_off_from_a_server_that_does_not_answer(page: Page) -> None:
    """It asks after 1, 1, 2, 4 and 8 seconds, then every ten, and says so until there is an answer."""
    asked = Asked(page)
    asked.fail = True
    assert after(page, asked, 16) == 5
    assert after(page, asked, 30) == 3
    assert "does not answer" in page.inner_text("#notice")
    asked.fail = False
    assert after(page, asked, 10) == 1
    assert page.inner_text("#notice") == ""
    assert after(page, asked, 2) == 2
