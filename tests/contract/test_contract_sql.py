"""This module holds the sql handler to the contract, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from database_fixtures import client

from rambla_py.encoding import as_object, to_json
from rambla_py.message import Message
from rambla_py.testing import CANARY, FaultProxy, HandlerContract, Received, Server
from rambla_py.testing.databases import DatabaseServer, MariaDbServer, PostgresServer

_ANSWER_BYTES = 30
_MID_BATCH_BYTES = 20_000


class Sql(HandlerContract):
    """What the databases share: a table of the test's own, with the id and the payload as JSON."""

    handler = "sql"
    table_name: str

    def options(self) -> dict[str, Any]:
        columns = {"weight": "headers.weight::integer"}
        return {
            "table": self.table_name,
            "columns": columns,
            "json_column": "payload",
            "create_table": True,
        }

    def takes(self, payload: Any) -> bool:
        return not isinstance(payload, bytes) or _is_text(payload)

    def arrives_as(self, payload: Any) -> Any:
        return to_json(as_object(payload))

    def poison(self) -> Message:
        return Message({"n": "too heavy"}, headers={"weight": 1 << 70})

    def _received(self, connection: Any, mark: str) -> list[Received]:
        cursor = connection.cursor()
        # As text: psycopg would read the JSON.
        kind = "char" if mark == "`" else "text"
        cursor.execute(f"SELECT CAST(payload AS {kind}), id FROM {mark}{self.table_name}{mark}")
        return [Received(to_json(msgspec.json.decode(payload)), name) for payload, name in cursor.fetchall()]


class TestSqlite(Sql):
    """A file."""

    has_login = has_address = can_cut = False

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.path, self.table_name = tmp_path / "shop.db", "orders"

    def connection(self) -> dict[str, Any]:
        return {"url": f"sqlite:///{self.path}"}

    def unreachable(self) -> dict[str, Any]:
        return {"url": f"sqlite:///{self.path.parent}/missing/shop.db"}

    def received(self) -> list[Received]:
        with closing(sqlite3.connect(self.path)) as connection:
            return self._received(connection, '"')


class Served(Sql):
    """Behind a fault proxy."""

    scheme: str
    server: DatabaseServer

    def connection(self) -> dict[str, Any]:
        return {"url": self.server.url_at(self.proxy.host, self.proxy.port)}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": self.server.url_at(host, port), "connect_timeout_s": 0.5, "read_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return {"url": self.server.url_at(self.proxy.host, self.proxy.port, CANARY)}

    def cut(self) -> None:
        self.proxy.cut_after(_ANSWER_BYTES, direction="down")  # written, and the answer lost
        self.proxy.cut_after(_MID_BATCH_BYTES)  # and in the midst of a write

    def cuts(self) -> int:
        return self.proxy.cuts

    def received(self) -> list[Received]:
        mark = '"' if isinstance(self.server, PostgresServer) else "`"
        with closing(client(self.server)) as connection:
            return self._received(connection, mark)

    def _begin(self, server: DatabaseServer, proxy: FaultProxy, name: str) -> None:
        self.server, self.proxy, self.table_name = server, proxy, name[-30:]


class TestPostgres(Served):
    """By COPY."""

    @pytest.fixture(autouse=True)
    def _server(
        self,
        postgres_server: PostgresServer,
        fault_proxy: Callable[[Server], FaultProxy],
        unique_name: str,
    ) -> None:
        self._begin(postgres_server, fault_proxy(postgres_server), unique_name)


class TestPostgresUpsert(TestPostgres):
    """By COPY into a temporary table, and from there by the id."""

    def options(self) -> dict[str, Any]:
        return {**super().options(), "upsert": True}


class TestMariaDb(Served):
    """By statements of many rows."""

    @pytest.fixture(autouse=True)
    def _server(
        self, mariadb_server: MariaDbServer, fault_proxy: Callable[[Server], FaultProxy], unique_name: str
    ) -> None:
        self._begin(mariadb_server, fault_proxy(mariadb_server), unique_name)


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
