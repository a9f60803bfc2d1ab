"""Take the picture of the shop's page, ``docs/analytics.png``, after some seconds of traffic.

Usage: python scripts/shop_picture.py [SECONDS]. It needs Chromium.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "analytics.png"
SIZE = (1200, 900)
CHROMIUM = "/usr/bin/chromium"
FLUSHED_S = 6.0

sys.path.insert(0, str(ROOT / "examples"))


def main() -> None:
    from shop.demo import free_port, shop, traffic

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory(prefix="shop-") as folder:
        url = f"sqlite:///{folder}/analytics.db"
        with shop(url, free_port(0), log=Path(folder, "shop.log")) as address:
            traffic(address, seconds)
            time.sleep(FLUSHED_S)  # the tracker's batch_timeout_s, and a little more
            take(f"{address}/analytics")


def take(address: str) -> None:
    width, height = SIZE
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(address)
        page.screenshot(path=PICTURE, full_page=True)
        browser.close()
    print(f"wrote {PICTURE.relative_to(ROOT)}, {PICTURE.stat().st_size / 1_000:.0f} kB")


if __name__ == "__main__":
    main()
