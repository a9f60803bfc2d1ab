"""This module is where SQLAlchemy differs from what ``SqlBackend`` promises: its errors, its transactions."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg
import sqlalchemy
from psycopg.pq import TransactionStatus
from sqlalchemy import event, exc

from rambla_py.sql.database import Kind
from rambla_py.sql.errors import (
    SqlBusyError,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlStatementError,
    UnsupportedTypeError,
)
from rambla_py.sql.mapping import sql_error
from rambla_py.turn import begin_writing

__all__ = ["READS", "ended_by", "listen", "made_key", "mapped"]

READS = "rambla_reads"
"""Stands in ``Connection.info`` while a transaction that only reads begins."""

# A deadlock, a full table of locks: MySQL undoes all of the transaction, and begins the next one unasked.
_MYSQL_ENDINGS = frozenset({"1206", "1213", "1614"})


def mapped(error: BaseException, pool_timeout_s: float) -> SqlError:
    """Return the error of ours that one of SQLAlchemy's, or of a driver's, stands for."""
    if isinstance(error, SqlError):
        return error
    if isinstance(error, exc.TimeoutError):
        return SqlBusyError(f"no connection of the pool was free within {pool_timeout_s:g} s")
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        return sql_error(error.orig)
    if isinstance(error, exc.StatementError) and error.orig is not None:
        missing = isinstance(error.orig, exc.InvalidRequestError)
        return SqlStatementError(str(error.orig)) if missing else SqlDataError(f"a value: {error.orig}")
    if isinstance(error, exc.CompileError):
        return UnsupportedTypeError(str(error))
    if isinstance(error, exc.PendingRollbackError):
        return SqlConnectionLostError("the connection was lost in this transaction; begin another one")
    return SqlStatementError(str(error)) if isinstance(error, exc.SQLAlchemyError) else sql_error(error)


def ended_by(connection: sqlalchemy.Connection, failed: SqlError | None) -> SqlError | None:
    """Return why nothing of a transaction can be kept, or None; ``failed`` is what a statement in it met.

    Who catches that error and goes on would not hear of it otherwise: the COMMIT is answered as if it were
    well, and on SQLite and MySQL the statements behind it count as a transaction of their own.
    """
    if failed is None or connection.invalidated:
        return None
    raw = connection.connection.dbapi_connection
    if isinstance(raw, sqlite3.Connection):
        ended = not raw.in_transaction
    elif isinstance(raw, psycopg.Connection):
        ended = raw.info.transaction_status == TransactionStatus.INERROR
    else:
        ended = failed.code in _MYSQL_ENDINGS
    return type(failed)(f"an earlier error has ended this transaction: {failed}") if ended else None


def listen(engine: sqlalchemy.Engine, kind: Kind) -> None:
    """Teach an engine which errors end a connection, and how transactions of SQLite begin."""

    @event.listens_for(engine, "handle_error")
    def _(context: Any) -> None:
        lost = isinstance(sql_error(context.original_exception), SqlConnectionLostError)
        context.is_disconnect = context.is_disconnect or lost

    if kind == "sqlite":

        @event.listens_for(engine, "begin")
        def _(connection: sqlalchemy.Connection) -> None:
            # The module begins nothing by itself here. Who may write takes that right at once: a read lock
            # could not be turned into a write lock when another transaction wrote meanwhile.
            reads = connection.info.pop(READS, False)
            if reads:
                connection.exec_driver_sql("BEGIN")
            else:
                begin_writing(connection.connection.dbapi_connection)  # type: ignore[arg-type]  # sqlite3


def made_key(result: Any) -> Any:
    """Return the key that the database made for the row of an INSERT, as far as the driver knows it."""
    if result.context.isinsert and result.inserted_primary_key:  # an expression, whose table is known
        return result.inserted_primary_key[0]
    return getattr(result.cursor or result.context.cursor, "lastrowid", None) or None
