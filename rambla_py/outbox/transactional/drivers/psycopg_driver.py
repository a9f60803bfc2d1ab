"""Connections of psycopg 3."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rambla_py.outbox.transactional.drivers.base import by_name, named, no_transaction
from rambla_py.outbox.transactional.statements import Dialect, Query

if TYPE_CHECKING:
    import psycopg

__all__ = ["AsyncPsycopgBinding", "PsycopgBinding"]


class PsycopgBinding:
    """A ``psycopg.Connection``, or a cursor of one."""

    name = "psycopg"
    guesses_types = False

    def __init__(self, given: Any) -> None:
        self._connection: psycopg.Connection[Any] = getattr(given, "connection", given)

    def dialect(self) -> Dialect:
        """Return ``"postgresql"``."""
        return "postgresql"

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open that has not failed."""
        _check(self.name, self._connection)

    def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""
        with self._connection.cursor(row_factory=_tuples()) as cursor:
            cursor.execute(query.sql(named).encode(), by_name(query))
            return cursor.fetchall() if cursor.description else []


class AsyncPsycopgBinding:
    """A ``psycopg.AsyncConnection``, or a cursor of one."""

    name = "psycopg"
    guesses_types = False

    def __init__(self, given: Any) -> None:
        self._connection: psycopg.AsyncConnection[Any] = getattr(given, "connection", given)

    def dialect(self) -> Dialect:
        """Return ``"postgresql"``."""
        return "postgresql"

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open that has not failed."""
        _check(self.name, self._connection)

    async def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""
        async with self._connection.cursor(row_factory=_tuples()) as cursor:
            await cursor.execute(query.sql(named).encode(), by_name(query))
            return await cursor.fetchall() if cursor.description else []


def _check(name: str, connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if connection.closed:
        raise no_transaction(name, "the connection is closed")
    status = connection.info.transaction_status.name
    if status == "INERROR":
        raise no_transaction(name, "the transaction has failed, and must be rolled back")
    if status != "INTRANS":
        raise no_transaction(name, "no transaction is open")


def _tuples() -> Any:
    return sys.modules["psycopg.rows"].tuple_row
