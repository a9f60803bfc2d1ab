"""The databases that events go to, without their tables at first, and a look into them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from rambla_py.analytics import TABLES
from rambla_py.sql import SqlBackend
from rambla_py.testing.clickhouse_server import ClickHouseServer

STORES = ("sqlite", "postgres", "mariadb", "clickhouse")


class Store:
    """A database with its URL for trackers; JSON is read back as data."""

    def __init__(self, kind: str, url: str) -> None:
        self.kind, self.url = kind, url

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return the rows of a table in the order of their times."""
        found = self.query(f"SELECT * FROM {table}")
        # A server without DateTime64 has the milliseconds in a column of their own.
        found.sort(key=lambda row: (str(row["timestamp"]), row.get("timestamp_ms", 0), row["id"]))
        for row in found:
            for name in ("context", "properties"):
                row[name] = json.loads(row[name]) if isinstance(row[name], str) else row[name]
        return found

    def count(self, table: str) -> int:
        """Return how many events a table has, each id once."""
        (row,) = self.query(f"SELECT count(DISTINCT id) AS n FROM {table}")
        return int(row["n"])

    def counts(self) -> dict[str, int]:
        """Return the number of events in each table."""
        return {table: self.count(table) for table in TABLES}

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the rows of a query."""
        raise NotImplementedError

    def execute(self, text: str) -> None:
        """Run a statement."""
        raise NotImplementedError


class SqlStore(Store):
    """SQLite, PostgreSQL or MariaDB."""

    def query(self, text: str) -> list[dict[str, Any]]:
        with SqlBackend(self.url) as backend:
            return [dict(row) for row in backend.execute(text).data]

    def execute(self, text: str) -> None:
        with SqlBackend(self.url) as backend:
            backend.execute(text)


class ClickHouseStore(Store):
    """ClickHouse, over HTTP."""

    def __init__(self, server: ClickHouseServer) -> None:
        super().__init__("clickhouse", f"clickhouse:{server.url.partition(':')[2]}")
        self._server = server

    def query(self, text: str) -> list[dict[str, Any]]:
        lines = self._server.query(f"{text} FORMAT JSONEachRow").splitlines()
        return [json.loads(line, parse_float=Decimal) for line in lines]

    def execute(self, text: str) -> None:
        self._server.query(text)


@contextmanager
def opened(kind: str, request: pytest.FixtureRequest, folder: Path, *more: str) -> Iterator[Store]:
    """Yield a database of this kind; its tables of events, and those of the names, are dropped."""
    store: Store
    if kind == "clickhouse":
        store = ClickHouseStore(request.getfixturevalue("clickhouse"))
    elif kind == "sqlite":
        store = SqlStore(kind, f"sqlite:///{folder / 'events.db'}")
    else:
        store = SqlStore(kind, request.getfixturevalue(f"{kind}_server").url)
    for table in (*TABLES, *more):
        store.execute(f"DROP TABLE IF EXISTS {table}")
    yield store
    for table in (*TABLES, *more):
        store.execute(f"DROP TABLE IF EXISTS {table}")
