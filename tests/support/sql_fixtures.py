"""Fixtures of the sql handler's tests: each of the databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sql_worker import Base, pick

from rambla_py.testing.databases import MariaDbServer, PostgresServer

KINDS = ("sqlite", "postgres", "mariadb")


@pytest.fixture(params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    """Each of the databases in turn."""
    made = pick(request.param, request.getfixturevalue, tmp_path, unique_name)
    yield made
    made.db.disconnect()


@pytest.fixture
def postgres(postgres_server: PostgresServer, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    made = pick("postgres", lambda name: postgres_server, tmp_path, unique_name)
    yield made
    made.db.disconnect()


@pytest.fixture
def mariadb(mariadb_server: MariaDbServer, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    made = pick("mariadb", lambda name: mariadb_server, tmp_path, unique_name)
    yield made
    made.db.disconnect()


@pytest.fixture(params=("postgres", "mariadb"))
def served(request: pytest.FixtureRequest, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    """Each of the databases that have a server."""
    made = pick(request.param, request.getfixturevalue, tmp_path, unique_name)
    yield made
    made.db.disconnect()
