"""Fixtures of real servers for these tests."""

from __future__ import annotations

import database_fixtures
import pytest
import server_fixtures
import sql_fixtures


def pytest_configure(config: pytest.Config) -> None:
    server_fixtures.register(config, database_fixtures, sql_fixtures)
