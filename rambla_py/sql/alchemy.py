"""Adaptation of SQLAlchemy: its errors and its transactions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy
from sqlalchemy import event, exc

from rambla_py.errors import RamblaError
from rambla_py.sql.database import Database
from rambla_py.sql.dialect import SqlDialect
from rambla_py.sql.errors import (
    SqlBusyError,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlStatementError,
    UnsupportedTypeError,
)
from rambla_py.sql.types import ZoneError

__all__ = ["READS", "generated_key", "listen", "mapped"]

READS = "rambla_reads"
"""Key of ``Connection.info``, set while a read-only transaction begins."""


def mapped(error: BaseException, database: Database, pool_timeout_s: float) -> SqlError:
    """Return the error for one of SQLAlchemy, of a driver, or of a conversion of values."""
    if isinstance(error, SqlError):
        return error
    if isinstance(error, exc.TimeoutError):
        return SqlBusyError(f"no connection of the pool was free within {pool_timeout_s:g} s")
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        return database.map_error(error.orig)
    if isinstance(error, exc.StatementError) and error.orig is not None:
        return _of_statement(error.orig)
    if isinstance(error, exc.UnsupportedCompilationError):
        return UnsupportedTypeError(str(error))
    if isinstance(error, exc.PendingRollbackError):
        return SqlConnectionLostError("the connection was lost in this transaction; begin another one")
    if isinstance(error, exc.SQLAlchemyError):
        return SqlStatementError(str(error))
    return database.map_error(error)


def _of_statement(error: BaseException) -> SqlError:
    """Return the error for what SQLAlchemy raised before it called the driver."""
    if isinstance(error, SqlError):
        return error
    if isinstance(error, exc.InvalidRequestError):
        return SqlStatementError(str(error))
    # Other texts may quote the value.
    text = str(error) if isinstance(error, ZoneError | RamblaError) else type(error).__name__
    return SqlDataError(f"a value cannot be converted ({text})").with_detail(str(error))


def listen(engine: sqlalchemy.Engine, database: Database, sleep: Callable[[float], Any] = time.sleep) -> None:
    """Let the database's dialect begin transactions, check values, and recognise lost connections."""
    dialect = database.dialect

    @event.listens_for(engine, "handle_error")
    def _(context: Any) -> None:
        error = database.map_error(context.original_exception)
        context.is_disconnect = context.is_disconnect or dialect.is_lost(error)

    @event.listens_for(engine, "begin")
    def _(connection: sqlalchemy.Connection) -> None:
        dialect.begin(connection, writes=not connection.info.pop(READS, False), sleep=sleep)

    if type(dialect).check_values is not SqlDialect.check_values:

        @event.listens_for(engine, "before_cursor_execute")
        def _(connection: Any, cursor: Any, sql: Any, values: Any, context: Any, many: bool) -> None:
            dialect.check_values(values)


def generated_key(result: Any) -> Any:
    """Return the key that the database generated for an INSERT, if the driver knows it."""
    if result.context.isinsert and result.inserted_primary_key:  # an expression, whose table is known
        return result.inserted_primary_key[0]
    return getattr(result.cursor or result.context.cursor, "lastrowid", None) or None
