"""Contract tests of ``SqlBackend`` on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rambla_py.testing import CANARY, FaultProxy, Server, SqlContract
from rambla_py.testing.databases import DatabaseServer, MariaDbServer, PostgresServer
from rambla_py.testing.ports import HOST, free_port


class TestSqliteFileBackend(SqlContract):
    """A file."""

    has_login = can_cut = checks_types = False

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path = tmp_path / "shop.db"

    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def unreachable(self) -> str:
        return f"sqlite:///{self.path.parent}/missing/shop.db"


class TestSqliteMemoryBackend(TestSqliteFileBackend):
    """A database in memory, which all threads share."""

    has_server = shares_database = False

    def url(self) -> str:
        return "sqlite://"

    test_ping = None  # the database ends with its connection
    test_a_value_comes_back_as_it_went = None  # the same types as in a file


class ServedBackend(SqlContract):
    """Behind a fault proxy."""

    server: DatabaseServer
    proxy: FaultProxy

    def url(self) -> str:
        return self.server.url_at(self.proxy.host, self.proxy.port)

    def unreachable(self) -> str:
        return self.server.url_at(HOST, free_port())

    def wrong_password(self) -> str:
        return self.server.url_at(self.proxy.host, self.proxy.port, CANARY)

    def cut(self) -> None:
        assert self.proxy.open > 0
        self.proxy.cut()


class TestPostgresBackend(ServedBackend):
    """psycopg."""

    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer, fault_proxy: Callable[[Server], FaultProxy]) -> None:
        self.server, self.proxy = postgres_server, fault_proxy(postgres_server)


class TestMariaDbBackend(ServedBackend):
    """PyMySQL."""

    @pytest.fixture(autouse=True)
    def _server(self, mariadb_server: MariaDbServer, fault_proxy: Callable[[Server], FaultProxy]) -> None:
        self.server, self.proxy = mariadb_server, fault_proxy(mariadb_server)
