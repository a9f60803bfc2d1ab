"""The shop, once for each module, and Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import server_fixtures
from shop_server import GunicornShop, ShopServer


def pytest_configure(config: pytest.Config) -> None:
    server_fixtures.register(config)


@pytest.fixture(scope="module")
def shop() -> Iterator[ShopServer]:
    """The shop under uvicorn, with nothing tracked but its first sample of the system."""
    with closing(ShopServer().start()) as server:
        yield server


@pytest.fixture
def gunicorn_shop() -> Iterator[GunicornShop]:
    with closing(GunicornShop().start()) as server:
        yield server
