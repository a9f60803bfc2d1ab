"""A worker of the sql handler on each of the three databases."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from delivery_target import Target, live_delivery

from rambla_py.delivery import Delivery
from rambla_py.handler import Secret, State
from rambla_py.handlers.sql import SqlHandler
from rambla_py.policy import Policy
from rambla_py.sql import SqlBackend, SqlError
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import Server

Proxies = Callable[[Server], FaultProxy]
ARRAYS: list[dict[str, Any]] = [{"upsert": True}, {"copy": False}]
"""Options by which PostgreSQL is written to by arrays."""

_numbers = itertools.count()


class Worker:
    """A handler with its live connection, for messages with the options of a channel."""

    def __init__(self, url: str, settings: dict[str, Any], options: dict[str, Any]) -> None:
        self.handler = SqlHandler(
            SqlHandler.Connection(url=Secret(url), **settings),
            channel="orders",
            service="sql",
            options=SqlHandler.Options(**options),
        )
        self.connection = self.handler.connect()
        self.state = State(self.connection, "orders", "sql")

    def publish(self, payloads: Iterable[Any]) -> list[Any]:
        return self.deliver([self.message(payload) for payload in payloads])

    def deliver(self, messages: list[Delivery]) -> list[Any]:
        return self.handler.handle_batch(messages, self.state)

    def message(
        self,
        payload: Any,
        name: str | None = None,
        *,
        key: str | None = None,
        policy: dict[str, Any] | None = None,
        **headers: Any,
    ) -> Delivery:
        return live_delivery(
            payload=payload,
            target=Target("sql"),
            receipt=None,
            seq=next(_numbers),
            accepted_at=0.0,
            options=self.handler.options,
            policy=Policy(**(policy or {})),
            headers=headers,
            key=key,
            given_id=name,
        )

    def close(self) -> None:
        self.handler.close(self.connection)


class Base:
    """One of the databases, with a table name of the test's own and a backend to look with."""

    def __init__(self, kind: str, url: str, table: str, server: Any = None) -> None:
        self.kind, self.url, self.table, self.server = kind, url, table, server
        self.db = SqlBackend(url)

    @contextmanager
    def worker(
        self, settings: dict[str, Any] | None = None, *, url: str | None = None, **options: Any
    ) -> Iterator[Worker]:
        given = {"table": self.table, **options}
        with closing(Worker(url or self.url, settings or {}, given)) as made:
            yield made

    def refusal(
        self, url: str | None = None, settings: dict[str, Any] | None = None, **options: Any
    ) -> SqlError:
        """Return the error of a connect that must fail."""
        with pytest.raises(SqlError) as caught:
            Worker(url or self.url, settings or {}, {"table": self.table, **options})
        return caught.value

    def make(self, columns: str) -> None:
        self.db.execute(f"create table {self.table} ({columns})")

    def rows(self, sql: str = "select * from {}", **column_types: str) -> list[tuple[Any, ...]]:
        found = self.db.execute(sql.format(self.table), column_types=column_types)
        return [tuple(row.values()) for row in found.data]


def pick(kind: str, of_server: Callable[[str], Any], folder: Path, name: str) -> Base:
    """Return a database of a kind; its server is started when the first test asks for it."""
    table = "t" + name.replace("-", "_")[-24:].lower()
    if kind == "sqlite":
        return Base(kind, f"sqlite:///{folder}/shop.db", table)
    server = of_server(f"{kind}_server")
    return Base(kind, server.url, table, server)
