"""Fixtures of real servers for these tests."""

from __future__ import annotations

from collections.abc import Iterator

import broker_fixtures
import database_fixtures
import pytest
import server_fixtures
import smtp_fixtures
from forked_program import PROGRAM


def pytest_configure(config: pytest.Config) -> None:
    server_fixtures.register(config, broker_fixtures, database_fixtures, smtp_fixtures)


@pytest.fixture(scope="session", autouse=True)
def _program_ends() -> Iterator[None]:
    yield
    PROGRAM.close()
