"""Contract tests of the sql handler on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from database_fixtures import client
from proxied_contract import KilledContract
from variants import variant_of

from rambla_py.handlers.sql import SqlHandler
from rambla_py.handlers.sql.connection import SqlConnection
from rambla_py.message import Message
from rambla_py.serialization.encoding import as_object, to_json
from rambla_py.testing import CANARY, FaultProxy, HandlerContract, Received, TlsFiles
from rambla_py.testing.contract_tests.delivery import DeliveryTests
from rambla_py.testing.contract_tests.losses import LossTests
from rambla_py.testing.contract_tests.payloads import PayloadTests
from rambla_py.testing.databases import DatabaseServer, MariaDbServer, PostgresServer


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


class _Narrow(SqlHandler):
    """SQLite takes rows of a gigabyte, and less by the driver's own call only."""

    def connect(self) -> SqlConnection:
        wire = super().connect()
        wire.raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)
        return wire


class TestSqlite(Sql):
    """A file; what holds its lock makes it silent."""

    has_login = has_address = can_cut = False
    has_tls = has_secrets = can_die = False  # no server, no way to it, no password

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> Iterator[None]:
        self.path, self.table_name = tmp_path / "shop.db", "orders"
        with closing(sqlite3.connect(self.path, isolation_level=None)) as self.other:
            yield

    def impatient(self) -> dict[str, Any]:
        return {**self.connection(), "read_timeout_s": 1.0}

    def silence(self) -> None:
        self.other.execute("BEGIN EXCLUSIVE")

    def too_large(self) -> tuple[dict[str, Any], Any]:
        self.handler = _Narrow  # type: ignore[misc]  # of this instance alone
        return self.connection(), "x" * 10_001

    def connection(self) -> dict[str, Any]:
        return {"url": f"sqlite:///{self.path}"}

    def unreachable(self) -> dict[str, Any]:
        return {"url": f"sqlite:///{self.path.parent}/missing/shop.db"}

    def received(self) -> list[Received]:
        with closing(sqlite3.connect(self.path)) as connection:
            return self._received(connection, '"')


class Served(Sql, KilledContract):
    """Behind a fault proxy; the server's other address is one that its certificate does not name."""

    answer_bytes = 30
    mid_batch_bytes = 5_000  # some 200 rows
    server: DatabaseServer
    tls_files: TlsFiles

    @pytest.fixture(autouse=True)
    def _tls(self, tls_files: TlsFiles) -> None:
        self.tls_files = tls_files

    def connection(self) -> dict[str, Any]:
        return {"url": self.server.url_at(self.proxy.host, self.proxy.port)}

    def at(self, host: str, port: int) -> dict[str, Any]:
        return {"url": self.server.url_at(host, port), "connect_timeout_s": 0.5, "read_timeout_s": 0.5}

    def wrong_password(self) -> dict[str, Any]:
        return self.secret_at(self.proxy.host, self.proxy.port)

    def secret_at(self, host: str, port: int) -> dict[str, Any]:
        return {**self.at(host, port), "url": self.server.url_at(host, port, CANARY)}

    def wrong_name(self) -> dict[str, Any]:
        url = self.server.url_at("127.0.0.2", self.server.port)
        return {"url": url, "tls": {"ca_file": str(self.tls_files.authority)}}

    def settings(self) -> dict[str, Any]:
        return {"batch_size": 100}

    def die(self) -> None:
        self.proxy.cut_after(self.mid_batch_bytes, then=self.kill_and_start)

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
        fault_proxy: Callable[..., FaultProxy],
        unique_name: str,
    ) -> None:
        self._begin(postgres_server, fault_proxy(postgres_server), unique_name)

    def too_large(self) -> tuple[dict[str, Any], Any]:
        # A row may have gigabytes; what is small is an entry of an index.
        columns = "id text PRIMARY KEY, weight integer, payload jsonb"
        with closing(client(self.server)) as connection:
            connection.execute(f'CREATE TABLE "{self.table_name}" ({columns})')
            connection.execute(f"""CREATE INDEX ON "{self.table_name}" ((payload ->> 'note'))""")
        return self.connection(), {"note": random.Random(1).randbytes(10_000).hex()}


@variant_of(TestPostgres, DeliveryTests, PayloadTests, LossTests)
class TestPostgresUpsert(TestPostgres):
    """By one statement of arrays, each row in the place of one with its id."""

    can_silence = False  # the connection is that of the plain COPY

    def options(self) -> dict[str, Any]:
        return {**super().options(), "upsert": True}


class TestMariaDb(Served):
    """By statements of many rows."""

    @pytest.fixture(autouse=True)
    def _server(
        self, mariadb_server: MariaDbServer, fault_proxy: Callable[..., FaultProxy], unique_name: str
    ) -> None:
        self._begin(mariadb_server, fault_proxy(mariadb_server), unique_name)

    def too_large(self) -> tuple[dict[str, Any], Any]:
        return self.connection(), "x" * 2_200_000  # the fixture's server takes 2 MB


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
