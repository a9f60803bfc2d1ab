"""SQLite, by the ``sqlite3`` module, and ``aiosqlite`` for asyncio."""

from __future__ import annotations

import datetime
import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy

from rambla_py._internal.sqlite_lock import WriteLock, begin_writing
from rambla_py.sql.bulk import BulkWriter, DriverErrors, MapError, Statements, TransactionWriter
from rambla_py.sql.dialect import ConnectOptions, SqlDialect, conversion_error, one_line
from rambla_py.sql.dialects.on_conflict import on_conflict
from rambla_py.sql.dialects.url_parameters import check_known
from rambla_py.sql.errors import (
    SqlAccessError,
    SqlBusyError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlIntegrityError,
    SqlPermissionError,
    SqlStatementError,
    SqlTooLargeError,
    SqlUnavailableError,
)
from rambla_py.sql.placeholders import Syntax

__all__ = ["SqliteDialect", "SqliteWriter"]

_PARAMETERS = frozenset({"cached_statements", "timeout", "uri"})
_URI_PARAMETERS = frozenset({"cache", "immutable", "mode", "modeof", "nolock", "psow", "vfs"})
_POLL_S = 0.001

_CODES: dict[int, type[SqlError]] = {
    sqlite3.SQLITE_PERM: SqlPermissionError,
    sqlite3.SQLITE_AUTH: SqlPermissionError,
    # The file was moved away: a new connection opens the one that is there now.
    sqlite3.SQLITE_READONLY_DBMOVED: SqlConnectionLostError,
    sqlite3.SQLITE_READONLY: SqlAccessError,  # permissions of the file, or of its disk
    sqlite3.SQLITE_BUSY_SNAPSHOT: SqlConflictError,
    sqlite3.SQLITE_BUSY: SqlUnavailableError,
    sqlite3.SQLITE_LOCKED: SqlUnavailableError,
    sqlite3.SQLITE_PROTOCOL: SqlUnavailableError,
    sqlite3.SQLITE_SCHEMA: SqlConflictError,
    sqlite3.SQLITE_ABORT: SqlConflictError,
    sqlite3.SQLITE_INTERRUPT: SqlBusyError,
    sqlite3.SQLITE_NOMEM: SqlUnavailableError,
    sqlite3.SQLITE_IOERR: SqlUnavailableError,
    sqlite3.SQLITE_FULL: SqlUnavailableError,
    sqlite3.SQLITE_CANTOPEN: SqlConnectionLostError,
    sqlite3.SQLITE_CORRUPT: SqlConnectionLostError,
    sqlite3.SQLITE_NOTADB: SqlConnectionLostError,
    sqlite3.SQLITE_TOOBIG: SqlTooLargeError,
    sqlite3.SQLITE_CONSTRAINT: SqlIntegrityError,
    sqlite3.SQLITE_MISMATCH: SqlDataError,
    sqlite3.SQLITE_RANGE: SqlDataError,
}


class SqliteDialect(SqlDialect):
    """SQLite: a file, or a database in memory."""

    name = "sqlite"
    driver = "sqlite+pysqlite"
    async_driver = "sqlite+aiosqlite"
    in_process = True
    placeholder = "?"
    syntax: ClassVar[Syntax] = Syntax(bracket_names=True)

    # -- the URL ------------------------------------------------------------------------------------

    def check_url(self) -> None:
        if self.url.host or self.url.username:
            raise ValueError(
                "a url of SQLite with a host; use sqlite:///file, or sqlite:////file from the root"
            )
        is_uri = "uri" in self.url.query and (self.url.database or "").startswith("file:")
        known = _PARAMETERS | _URI_PARAMETERS if is_uri else _PARAMETERS
        hints = dict.fromkeys(_URI_PARAMETERS, "SQLite reads it from sqlite:///file:PATH?uri=true&...")
        check_known(self, known, hints=hints, unchecked=_URI_PARAMETERS)

    @property
    def where(self) -> str:
        return f"sqlite at {self.url.database or ':memory:'}"

    @property
    def in_memory(self) -> bool:
        name = self.url.database or ""
        return name in ("", ":memory:") or "mode=memory" in name

    @property
    def crosses_forks(self) -> bool:
        # In a child, SQLite assumes the locks of the connection that it inherits, and does not have them.
        return self.in_memory

    @property
    def is_missing(self) -> bool:
        name = self.url.database or ""
        return not self.in_memory and not name.startswith("file:") and not Path(name).exists()

    # -- connections --------------------------------------------------------------------------------

    def open(self, options: ConnectOptions) -> sqlite3.Connection:
        arguments, named = self._connect_arguments(options)
        raw: sqlite3.Connection = sqlite3.connect(*arguments, **named)
        try:
            raw.execute("PRAGMA foreign_keys = ON")
            raw.execute("PRAGMA schema_version").fetchall()  # reads the file, which may not be a database
        except BaseException:
            raw.close()
            raise
        return raw

    async def open_async(self, options: ConnectOptions) -> Any:
        import aiosqlite  # only the asyncio backend needs it

        arguments, named = self._connect_arguments(options)
        raw = await aiosqlite.connect(*arguments, **named)
        try:
            await raw.execute("PRAGMA foreign_keys = ON")
            await raw.execute_fetchall("PRAGMA schema_version")
        except BaseException:
            await raw.close()
            raise
        return raw

    def ping(self, connection: sqlite3.Connection) -> None:
        connection.execute("SELECT 1").fetchall()

    def write_ahead(self, connection: sqlite3.Connection) -> None:
        # The mode is kept in the file. A database in memory has no file to read beside the writer.
        if self.in_memory:
            return
        with DriverErrors(self.map_error):
            mode = _write_ahead(connection)
        if mode != "wal":
            raise SqlAccessError(f"{self.where} cannot be put into WAL mode; set wal = false")

    def interrupt(self, connection: sqlite3.Connection) -> None:
        with suppress(Exception):  # it may be closed at the same time
            connection.interrupt()

    def _connect_arguments(self, options: ConnectOptions) -> tuple[list[Any], dict[str, Any]]:
        arguments, named = self.arguments(self.url.set(drivername=self.driver))
        # Without isolation_level the module never begins a transaction by itself.
        named |= {"check_same_thread": False, "isolation_level": None}
        named.setdefault("timeout", options.read_timeout_s)
        return arguments, named

    # -- errors -------------------------------------------------------------------------------------

    def map_error(self, error: BaseException) -> SqlError:
        if not isinstance(error, sqlite3.Error):
            return conversion_error(error)
        number = getattr(error, "sqlite_errorcode", None)
        text = one_line(error)
        if number is not None:
            kind = _CODES.get(number) or _CODES.get(number & 0xFF, SqlStatementError)
            return kind(text, code=getattr(error, "sqlite_errorname", str(number)))
        if "closed database" in text or "no active connection" in text:
            return SqlConnectionLostError(text)
        if "too big" in text:
            return SqlTooLargeError(text)
        return SqlDataError(text) if "binding" in text.lower() else SqlStatementError(text)

    def map_connect_error(self, error: BaseException) -> SqlConnectionLostError:
        return SqlConnectionLostError(f"cannot connect to {self.where}: {one_line(error)}")

    # -- transactions -------------------------------------------------------------------------------

    def begin(
        self, connection: sqlalchemy.Connection, *, writes: bool, sleep: Callable[[float], Any]
    ) -> None:
        # A transaction that may write takes the write lock at once: a read lock cannot be upgraded after
        # another transaction has written.
        if not writes:
            connection.exec_driver_sql("BEGIN")
        elif isinstance(raw := connection.connection.dbapi_connection, sqlite3.Connection):
            begin_writing(raw)
        else:
            _begin_writing_async(raw, sleep)

    def has_ended(self, connection: Any, error: SqlError) -> bool:
        # The asyncio driver's connection has the attribute as well.
        raw = getattr(connection, "driver_connection", connection)
        return not raw.in_transaction

    # -- SQL ----------------------------------------------------------------------------------------

    def check_values(self, values: Any) -> None:
        """Refuse NaN, which SQLite stores as NULL."""
        rows = values if isinstance(values, list) else [values]
        for row in rows:
            for value in row.values() if isinstance(row, Mapping) else row or ():
                if isinstance(value, float) and math.isnan(value):
                    raise SqlDataError("a value is NaN, which SQLite would store as NULL; pass None for NULL")

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    def quote_column(self, name: str) -> str:
        # In double quotes an unknown name would be a string literal.
        return "`" + name.replace("`", "``") + "`"

    def upsert(self, names: Sequence[str], key: str) -> str:
        return on_conflict(self, names, key)

    def upsert_probe(self, table: str, names: Sequence[str], key: str) -> str:
        into = ".".join(map(self.quote, table.split(".")))
        columns, nulls = ", ".join(map(self.quote, names)), ", ".join("NULL" for _ in names)
        conflict = f"ON CONFLICT ({self.quote(key)}) DO NOTHING"
        return f"EXPLAIN INSERT INTO {into} ({columns}) VALUES ({nulls}) {conflict}"

    def is_missing_key(self, error: SqlError) -> bool:
        return "does not match any PRIMARY KEY" in str(error)

    def writer(
        self, connection: Any, statements: Statements, names: Sequence[str], *, copy: bool, upsert: str | None
    ) -> BulkWriter:
        return SqliteWriter(connection, statements, self.map_error, self.max_placeholders)

    def row_limit(self, connection: sqlite3.Connection) -> int:
        return connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)

    def column_form(self, kind: Any) -> None:
        """Nothing: a column of any type holds any value."""

    def adapt_time(self, value: datetime.datetime, *, naive: bool) -> Any:
        return value.isoformat(sep=" ")


def _write_ahead(connection: sqlite3.Connection) -> str:
    """Put a file into WAL mode; return its mode then. SQLite does not wait for others by itself."""
    (timeout_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + timeout_ms / 1_000
    while True:
        (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
        try:
            return (
                str(mode)
                if mode == "wal"
                else str(*connection.execute("PRAGMA journal_mode = WAL").fetchone())
            )
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def _begin_writing_async(raw: Any, sleep: Callable[[float], Any]) -> None:
    """Take the write lock over the adapted connection of the asyncio driver, without blocking its loop."""
    ((timeout_ms,),) = _fetch(raw, "PRAGMA busy_timeout")
    deadline = time.monotonic() + timeout_ms / 1_000
    try:
        _fetch(raw, "PRAGMA busy_timeout = 0")  # in the block: a cancelled task may have done it
        while True:
            try:
                _fetch(raw, "BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > deadline:
                    raise
            sleep(_POLL_S)
    finally:
        _fetch(raw, f"PRAGMA busy_timeout = {timeout_ms}")


def _fetch(raw: Any, sql: str) -> Iterable[tuple[Any, ...]]:
    cursor = raw.cursor()
    try:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else ()
    finally:
        cursor.close()


_AT_ONCE = 25
"""Rows in one statement of SQLite; more are not faster."""

_LEFT_AT_ONCE = 12
"""Most rows in a statement for what is left over."""


class SqliteWriter(TransactionWriter):
    """Writes 25 rows with each statement, and what is left over with at most two: of 12 rows, and the rest.

    That costs a quarter less than a step of ``executemany`` for each row, and releases the GIL few times for
    each statement: a publisher that takes it keeps it for 5 ms, or until its next system call, and both
    threads are switched. sqlite3 keeps the compiled statements, of which a table has thirteen.
    """

    def __init__(
        self, raw: sqlite3.Connection, texts: Statements, map_error: MapError, placeholders: int = 999
    ) -> None:
        super().__init__(raw, texts, raw.execute, map_error)
        self._most = max(1, min(_AT_ONCE, placeholders // texts.width))
        self._inserts: dict[int, str] = {}
        self._lock: WriteLock | None = None

    def begin(self) -> None:
        """Take the write lock at once: a read lock cannot always be upgraded later."""
        with self.errors:
            if self._lock is None:
                self._lock = WriteLock(self.connection)
            self._lock.begin_shared()

    def write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        first, end, execute, most = 0, len(rows), self.connection.execute, self._most
        with self.errors:
            while first < end:
                left = end - first
                size = most if left >= most else min(left, _LEFT_AT_ONCE)
                execute(self._insert(size), [*chain.from_iterable(rows[first : first + size])])
                first += size

    def _insert(self, rows: int) -> str:
        if rows not in self._inserts:
            self._inserts[rows] = self.statements.insert_many(rows)
        return self._inserts[rows]
