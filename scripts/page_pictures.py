"""Take the pictures of the operations page, ``docs/operate/page-light.png`` and ``page-dark.png``.

Usage: python scripts/page_pictures.py [SECONDS] [FOLDER]. It needs Chromium. The app is a shop after some
seconds of traffic: orders are delivered, the ledger refuses the login, the webhooks of partners wait for a
slow server until their mailbox is full, and some mails go to addresses that do not exist. With a FOLDER there
are also pictures of a phone's width, and of a target that is open.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import Browser, sync_playwright

from rambla_py import AccessError, Handler, MailboxFullError, PermanentError, Rambla, RejectedError
from rambla_py.web import ops_app

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "operate"
CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT = 1280, 800
PHONE = 375


class Place(Handler):
    """Takes messages; says where it would be."""

    address = ""

    @classmethod
    def endpoint(cls, settings: Any) -> str:
        """Return an address for the page."""
        return cls.address

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        """Take it."""
        time.sleep(0.002)


class Broker(Place):
    """Takes every order."""

    address = "amqp://broker.internal:5672/shop"
    guarantee = "at least once; a message is ok when the broker has confirmed it"


class Ledger(Place):
    """Refuses the login."""

    address = "postgresql://ledger.internal:5432/ledger"

    def connect(self) -> Any:
        """Raise."""
        raise AccessError("postgresql at ledger.internal:5432: the login of 'shop' was refused")


class Partners(Place):
    """Answers slowly."""

    address = "https://hooks.partner.example"

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        """Take it, in a while."""
        time.sleep(0.4)
        if message.payload["id"] % 9 == 0:
            raise RejectedError("POST https://hooks.partner.example: 500 Internal Server Error")


class Mails(Place):
    """Refuses some addresses."""

    address = "smtp://relay.internal:587"

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        """Take it, or not."""
        time.sleep(0.004)
        number = message.payload["id"]
        if number % 40 == 7:
            raise PermanentError("550 5.1.1 user unknown")
        if number % 100 == 31:
            raise PermanentError("552 5.3.4 message too big for the mailbox")


def shop(folder: str) -> Rambla:
    """Return the app."""
    return Rambla(
        {
            "rambla": {"telemetry": {"name": "shop"}, "outbox": {"url": f"sqlite:///{folder}/outbox.db"}},
            "amqp": {"handler": Broker, "channels": {"orders": {"count": 2}}},
            "sql": {"handler": Ledger, "channels": {"orders": {}}},
            "http": {
                "handler": Partners,
                "channels": {
                    "partners": {
                        "max_pending": 200,
                        "overflow": "raise",
                        "options": {"retries": 1, "backoff": {"initial_s": 0.1, "max_s": 0.1}},
                    }
                },
            },
            "smtp": {
                "handler": Mails,
                "channels": {"receipts": {"durable": True, "options": {"retries": 0}}},
            },
        }
    )


def traffic(app: Rambla, ended: threading.Event) -> None:
    """Publish until it ends, a little more at some times than at others."""
    for number in itertools.count(1):
        if ended.wait(0.004 if number // 250 % 2 else 0.009):
            return
        app.publish("amqp.orders", {"id": number, "total": 42})
        if number % 5 == 0:
            app.publish("sql.orders", {"id": number, "total": 42})
        if number % 3 == 0:
            app.publish("receipts", {"id": number})
        try:
            app.publish("partners", {"id": number})
        except MailboxFullError:
            continue


@contextmanager
def served(app: Rambla) -> Iterator[str]:
    """Serve the page of an app."""
    server = uvicorn.Server(uvicorn.Config(ops_app(app), host="127.0.0.1", port=0, log_config=None))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = server.force_exit = True
    thread.join()


def main() -> None:
    """Take the pictures."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    more = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    ended = threading.Event()
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        app = shop(folder).start()
        publisher = threading.Thread(target=traffic, args=(app, ended))
        publisher.start()
        with served(app) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            take(browser, url, seconds, more)
            browser.close()
        ended.set()
        publisher.join()
        app.stop(timeout_s=0.0)


def take(browser: Browser, url: str, seconds: float, more: Path | None) -> None:
    """Take a picture in both schemes, after the page has been open for so long."""
    schemes: tuple[Any, ...] = ("light", "dark")
    pages = {
        scheme: browser.new_page(color_scheme=scheme, viewport={"width": WIDTH, "height": HEIGHT})
        for scheme in schemes
    }
    for page in pages.values():
        page.goto(url)
    time.sleep(seconds)
    for scheme, page in pages.items():
        page.bring_to_front()
        page.wait_for_timeout(1_500)  # a page that is not in front asks for nothing
        page.screenshot(path=PICTURES / f"page-{scheme}.png", full_page=True)
        print(f"wrote docs/operate/page-{scheme}.png")
        if more is not None:
            page.click("tr.target >> nth=2")
            page.screenshot(path=more / f"open-{scheme}.png", full_page=True)
            page.set_viewport_size({"width": PHONE, "height": HEIGHT})
            page.screenshot(path=more / f"phone-{scheme}.png", full_page=True)


if __name__ == "__main__":
    main()
