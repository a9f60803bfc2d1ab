"""Sessions and connections of SQLAlchemy."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from rambla_py.outbox.transactional.drivers.base import (
    by_name,
    colon,
    known_dialect,
    no_transaction,
    question_mark,
)
from rambla_py.outbox.transactional.statements import Dialect, Query

if TYPE_CHECKING:
    from sqlalchemy import Connection, TextClause
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session, scoped_session

__all__ = ["AsyncSqlAlchemyBinding", "SqlAlchemyBinding"]


class SqlAlchemyBinding:
    """A ``Session``, a ``scoped_session`` or a ``Connection``."""

    name = "sqlalchemy"
    guesses_types = True

    def __init__(self, given: Session | scoped_session[Any] | Connection) -> None:
        self._given: Any = _session_of(given)
        self._opened: Connection | None = None

    def dialect(self) -> Dialect:
        """Return the dialect of the connection."""
        return known_dialect(self.name, self._connection.dialect.name)

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open that has not failed."""
        given = self._given
        if getattr(given, "closed", False):
            raise no_transaction(self.name, "the connection is closed")
        if not given.in_transaction():
            raise no_transaction(self.name, "no transaction is open")
        if not getattr(given, "is_active", True):
            raise no_transaction(self.name, "the transaction has failed, and must be rolled back")
        if _autocommits(self._connection):
            raise no_transaction(self.name, "the connection commits each statement by itself (AUTOCOMMIT)")

    def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""
        connection = self._connection
        if connection.dialect.name == "sqlite":  # a thousand rows have too many parameters to name
            result = connection.exec_driver_sql(query.sql(question_mark), query.parameters)
        else:
            result = connection.execute(_text(query.sql(colon)), by_name(query))
        return [tuple(row) for row in result] if result.returns_rows else []

    @property
    def _connection(self) -> Connection:
        if self._opened is None:
            given = self._given
            is_connection = hasattr(given, "exec_driver_sql")
            opened: Connection = given if is_connection else given.connection()
            self._opened = opened
        return self._opened


class AsyncSqlAlchemyBinding:
    """An ``AsyncSession``, an ``async_scoped_session`` or an ``AsyncConnection``."""

    name = "sqlalchemy"
    guesses_types = True

    def __init__(self, given: AsyncSession | AsyncConnection) -> None:
        self._given: Any = _session_of(given)

    def dialect(self) -> Dialect:
        """Return the dialect of the connection."""
        given = self._given
        engine = given.get_bind() if hasattr(given, "get_bind") else given
        return known_dialect(self.name, engine.dialect.name)

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open; the rest is found by ``run``."""
        if getattr(self._given, "closed", False):
            raise no_transaction(self.name, "the connection is closed")
        if not self._given.in_transaction():
            raise no_transaction(self.name, "no transaction is open")

    async def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""
        rows: list[Any] = await self._given.run_sync(_checked_run, query)
        return rows


def _session_of(given: Any) -> Any:
    """Return the session behind a scoped one, and anything else as it is."""
    return given() if hasattr(given, "registry") and callable(given) else given


def _checked_run(given: Any, query: Query) -> list[Any]:
    binding = SqlAlchemyBinding(given)
    binding.check()
    return binding.run(query)


def _autocommits(connection: Connection) -> bool:
    if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
        return True
    driver: Any = connection.connection.dbapi_connection
    if getattr(driver, "autocommit", False) is True:
        return True
    return (
        connection.dialect.name == "sqlite" and driver.isolation_level is None and not driver.in_transaction
    )


@functools.lru_cache(maxsize=16)
def _text(sql: str) -> TextClause:
    clause: TextClause = sys.modules["sqlalchemy"].text(sql)
    return clause
