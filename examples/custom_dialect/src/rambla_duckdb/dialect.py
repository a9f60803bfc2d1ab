"""DuckDB for ``rambla_py.sql``: what it does otherwise than the base class."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import sqlalchemy
from sqlalchemy.dialects import postgresql

from rambla_duckdb.connection import Connection, connect
from rambla_py.sql import (
    BulkWriter,
    ConnectOptions,
    DbapiWriter,
    SqlAccessError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlDataError,
    SqlDialect,
    SqlError,
    SqlIntegrityError,
    SqlStatementError,
    SqlUnavailableError,
    Statements,
    Syntax,
)

__all__ = ["DuckDbDialect"]

# The first that fits; the classes of DuckDB are a tree.
_ERRORS: list[tuple[type[Exception], type[SqlError]]] = [
    (duckdb.ConstraintException, SqlIntegrityError),
    (duckdb.ConversionException, SqlDataError),
    (duckdb.OutOfRangeException, SqlDataError),
    (duckdb.InvalidInputException, SqlDataError),
    (duckdb.TransactionException, SqlConflictError),
    (duckdb.PermissionException, SqlAccessError),
    (duckdb.OutOfMemoryException, SqlUnavailableError),
    (duckdb.IOException, SqlUnavailableError),
    (duckdb.ConnectionException, SqlConnectionLostError),
    (duckdb.FatalException, SqlConnectionLostError),
    (duckdb.ProgrammingError, SqlStatementError),
    (duckdb.NotSupportedError, SqlStatementError),
]


class DuckDbDialect(SqlDialect):
    """DuckDB: a file, or a database in memory."""

    name = "duckdb"
    driver = "rambla_duckdb"
    in_process = True
    has_savepoints = False
    placeholder = "?"
    syntax: ClassVar[Syntax] = Syntax(
        nested_comments=True, dollar_quotes=True, escape_strings=True, colon_casts=True
    )
    types: ClassVar[Mapping[str, Callable[..., Any]]] = {"interval": postgresql.INTERVAL}
    plain_types: ClassVar[frozenset[type]] = SqlDialect.plain_types | {
        datetime.date,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        uuid.UUID,
    }

    @property
    def where(self) -> str:
        """The file."""
        return f"duckdb at {self.url.database or ':memory:'}"

    @property
    def in_memory(self) -> bool:
        """Whether there is no file."""
        return (self.url.database or ":memory:") == ":memory:"

    @property
    def is_missing(self) -> bool:
        """Whether the file does not exist."""
        return not self.in_memory and not Path(str(self.url.database)).exists()

    def check_url(self) -> None:
        """Refuse a host: the database is a file."""
        if self.url.host or self.url.username:
            raise ValueError("a url of DuckDB with a host; use duckdb:///file")

    def open(self, options: ConnectOptions) -> Connection:
        """Open the file; connections of a process share it."""
        return connect(self.url.database or ":memory:")

    def interrupt(self, connection: Connection) -> None:
        """Cancel the running statement."""
        connection.raw.interrupt()

    def map_error(self, error: BaseException) -> SqlError:
        """Map by class; the texts of errors about rows quote values, so they are left out."""
        for kind, ours in _ERRORS:
            if isinstance(error, kind):
                about_rows = ours in (SqlIntegrityError, SqlDataError)
                text = type(error).__name__ if about_rows else str(error).partition("\n")[0]
                return ours(text, code=type(error).__name__)
        return super().map_error(error)

    def begin(
        self, connection: sqlalchemy.Connection, *, writes: bool, sleep: Callable[[float], Any]
    ) -> None:
        """Begin a transaction: DuckDB is in autocommit otherwise."""
        raw: Any = connection.connection.dbapi_connection
        raw.begin()

    def has_ended(self, connection: Connection, error: SqlError) -> bool:
        """Return whether the transaction has ended: after an error DuckDB only accepts ROLLBACK."""
        return not isinstance(error, SqlStatementError)

    def upsert(self, names: Sequence[str], key: str) -> str:
        """Return the upsert of PostgreSQL."""
        pairs = [f"{self.quote(name)} = excluded.{self.quote(name)}" for name in names if name != key]
        action = f"UPDATE SET {', '.join(pairs)}" if pairs else "NOTHING"
        return f"ON CONFLICT ({self.quote(key)}) DO {action}"

    def upsert_probe(self, table: str, names: Sequence[str], key: str) -> str:
        """Return a statement that fails without a unique key."""
        into = ".".join(map(self.quote, table.split(".")))
        return f"EXPLAIN INSERT INTO {into} DEFAULT VALUES ON CONFLICT ({self.quote(key)}) DO NOTHING"

    def writer(
        self, connection: Any, statements: Statements, names: Sequence[str], *, copy: bool, upsert: str | None
    ) -> BulkWriter:
        """Return the base class's writer, with transactions that must be begun."""
        return Writer(connection, statements, self.map_error)

    def is_missing_key(self, error: SqlError) -> bool:
        """Return whether the probe found no unique key."""
        return "not referenced by a UNIQUE/PRIMARY KEY" in str(error)


class Writer(DbapiWriter):
    """Writes with ``executemany``, in a transaction."""

    def begin(self) -> None:
        """Begin a transaction."""
        with self.errors:
            self.connection.begin()
