"""This module is the live connection of a worker: the driver's own, its writer, and a safe end."""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rambla_py.handlers.sql.batch import write_batch
from rambla_py.handlers.sql.postgres import PostgresWriter
from rambla_py.handlers.sql.rows import RowMaker
from rambla_py.handlers.sql.sources import read_columns
from rambla_py.handlers.sql.statements import statements
from rambla_py.handlers.sql.table import Table, look_at
from rambla_py.handlers.sql.writers import MysqlWriter, Row, SqliteWriter, Writer
from rambla_py.sql.database import Database
from rambla_py.sql.errors import (
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlStatementError,
    SqlTooLargeError,
    SqlUnknownOutcomeError,
)
from rambla_py.sql.mapping import sql_error

if TYPE_CHECKING:
    from rambla_py.handlers.sql.settings import SqlOptions

__all__ = ["SqlWire"]

_NO_SUCH_KEY = "42P10"
_OF_THE_PARENT: list[Any] = []
"""Connections that a forked child leaves alone: to end one would end it for the parent."""


class SqlWire:
    """A connection, ready to write the rows of one channel; ``close`` may be called from any thread.

    ``rows`` makes the rows, ``lost`` says why nothing can be written any more, or is None.
    """

    def __init__(self, database: Database, options: SqlOptions, channel: str) -> None:
        self.database = database
        self.lost: SqlError | None = None
        self._options, self._table = options, options.table or channel
        self._columns = read_columns(options)
        self._unique = options.id_column if options.upsert else None
        self._owner = os.getpid()
        self._busy = threading.Lock()
        self._closed = False
        if database.is_missing and not options.create_table:
            raise SqlConnectionLostError(
                f"cannot connect to {database.where}: there is no such file; "
                "make it, or set create_table = true"
            )
        self.raw = database.connect(autocommit=True)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<SqlWire {self.database.where}{', lost' if self.lost else ''}>"

    def write(self, rows: Sequence[Row]) -> dict[int, SqlError]:
        """Write rows in one transaction; see ``write_batch``."""
        with self._busy:
            if self.lost is not None:
                raise self.lost
            try:
                return self._write(rows)
            except (SqlConnectionLostError, SqlUnknownOutcomeError) as error:
                self.lost = SqlConnectionLostError(str(error))
                raise
            finally:
                if self._closed:
                    self._end()

    def ping(self) -> None:
        """Raise ``SqlConnectionLostError`` when the server does not answer."""
        with self._busy:
            if self.lost is not None:
                raise self.lost
            try:
                cursor = self.raw.cursor()
                cursor.execute("SELECT 1")
                cursor.fetchall()
            except Exception as error:
                self.lost = SqlConnectionLostError(str(sql_error(error)))
                raise self.lost from error

    def close(self) -> None:
        """Close at once: who waits for an answer on another thread is woken, and closes it there."""
        self._closed = True
        if os.getpid() != self._owner:
            _OF_THE_PARENT.append(self.raw)
            return
        if self._busy.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._busy.release()
        else:
            self._wake()

    def _write(self, rows: Sequence[Row]) -> dict[int, SqlError]:
        try:
            refused = write_batch(self.writer, rows)
        except SqlStatementError as error:
            if (changed := self._changed()) is not None:
                raise changed from error
            raise
        if any(isinstance(error, SqlDataError) for error in refused.values()):
            # The values were made, and PostgreSQL was told to read them, for the columns of before.
            self.lost = self._changed()
        if self.lost is not None:
            return dict.fromkeys(refused, self.lost)
        return {at: self._sized(error, rows[at]) for at, error in refused.items()}

    def _changed(self) -> SqlConnectionLostError | None:
        """Return an error when the table went, or changed, since we connected: the next one looks anew."""
        try:
            if self._look(create=False) == self._seen:
                return None
        except SqlStatementError as gone:
            return SqlConnectionLostError(str(gone))
        return SqlConnectionLostError(f"the table {self._table!r} was changed meanwhile")

    def _sized(self, error: SqlError, row: Row) -> SqlError:
        """Return the error of a refused row, with both sizes where it is too large and they were not told."""
        if not isinstance(error, SqlTooLargeError) or (error.size and error.limit):
            return error
        size = error.size or sum(len(value) for value in row if isinstance(value, str | bytes))
        limit = error.limit
        if self.database.kind == "sqlite":
            limit = self.raw.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
        told = f"{error}; the row has {size} bytes" + (f", and the limit is {limit}" if limit else "")
        sized = SqlTooLargeError(told, size=size, limit=limit)
        sized.code, sized.__cause__ = error.code, error.__cause__
        return sized

    def _look(self, *, create: bool) -> Table:
        return look_at(
            self.database,
            self.raw,
            self._table,
            self._columns,
            create=create,
            unique=self._unique,
        )

    def _end(self) -> None:
        self.lost = self.lost or SqlConnectionLostError(f"the connection to {self.database.where} is closed")
        with suppress(Exception):  # of a connection that is gone, or that is closed already
            self.raw.close()

    def _wake(self) -> None:
        with suppress(Exception):  # it may end by itself meanwhile
            if self.database.kind == "sqlite":
                self.raw.interrupt()
                return
            number = self.raw.fileno() if self.database.kind == "postgresql" else self.raw._sock.fileno()
            with socket.socket(fileno=os.dup(number)) as other:
                other.shutdown(socket.SHUT_RDWR)

    def _is_unique(self, probe: str) -> bool:
        """Say whether an upsert goes by the id: without a key it is refused, on MySQL it is a second row."""
        cursor = self.raw.cursor()
        try:
            cursor.execute(probe)
        except Exception as error:
            # What else is wrong is heard when a row is written: that there is no right to, for one.
            told = sql_error(error)
            return told.code != _NO_SUCH_KEY and "does not match any PRIMARY KEY" not in str(told)
        return bool(cursor.fetchall())

    def _prepare(self) -> None:
        kind = self.database.kind
        table = self._seen = self._look(create=self._options.create_table)
        self.rows = RowMaker(self._columns, kind, binary=table.binary, json=table.json, naive=table.naive)
        texts = statements(self._table, self.rows.names, kind, upsert_on=self._unique)
        if self._unique is not None and not self._is_unique(texts.probe):
            raise SqlStatementError(
                f"the table {self._table!r} has no unique key on {self._unique!r}, which upsert goes by; "
                "make one, or set upsert = false"
            )
        self.writer: Writer
        if kind == "postgresql":
            self.writer = PostgresWriter(
                self.raw, texts, self.rows.names, copy=self._options.copy, upsert_on=self._unique
            )
        else:
            self.writer = (MysqlWriter if kind == "mysql" else SqliteWriter)(self.raw, texts)
