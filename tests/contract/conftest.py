"""This module gives contract tests the fixtures of real servers, and what their handlers wait for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import server_fixtures


def pytest_configure(config: pytest.Config) -> None:
    server_fixtures.register(config)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """An event that handlers wait for; it is set at the end, so that none of them stays."""
    event = threading.Event()
    yield event
    event.set()
