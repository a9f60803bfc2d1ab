"""Fixtures of real servers for these tests."""

from __future__ import annotations

import broker_fixtures
import database_fixtures
import object_fixtures
import outbox_databases
import pytest
import redis_fixtures
import server_fixtures
import smtp_fixtures


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
