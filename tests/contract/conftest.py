"""Fixtures of real servers for these tests."""

from __future__ import annotations

from collections.abc import Iterator

import broker_fixtures
import database_fixtures
import object_fixtures
import outbox_databases
import pytest
import redis_fixtures
import server_fixtures
import smtp_fixtures
from jitsu_server import JitsuProcess
from web_process import WebProcess


def pytest_configure(config: pytest.Config) -> None:
    server_fixtures.register(
        config,
        broker_fixtures,
        redis_fixtures,
        object_fixtures,
        outbox_databases,
        database_fixtures,
        smtp_fixtures,
    )


@pytest.fixture(scope="module")
def web_process() -> Iterator[WebProcess]:
    """A web server in a process of its own, which can be killed."""
    with WebProcess() as server:
        yield server


@pytest.fixture(scope="module")
def jitsu_process() -> Iterator[JitsuProcess]:
    """The stand-in for Jitsu in a process of its own, which can be killed."""
    with JitsuProcess() as server:
        yield server
