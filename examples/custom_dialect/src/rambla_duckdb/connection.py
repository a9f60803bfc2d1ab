"""DuckDB as a DBAPI module, with cursors that share the transaction of their connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

__all__ = ["Binary", "Connection", "Cursor", "Error", "connect", "paramstyle"]

paramstyle = "qmark"
Binary = bytes
Error = duckdb.Error


def connect(file: str = ":memory:") -> Connection:
    """Open a file; the connections of a process share it."""
    return Connection(duckdb.connect(file))


class Connection:
    """A connection of DuckDB; ``begin`` starts a transaction, as SQLAlchemy and the writers ask for."""

    def __init__(self, raw: duckdb.DuckDBPyConnection) -> None:
        self.raw = raw
        self.in_transaction = False

    def cursor(self) -> Cursor:
        """Return a cursor in this connection's transaction; DuckDB's own cursors have their own."""
        return Cursor(self)

    def begin(self) -> None:
        """Begin a transaction."""
        self.raw.execute("BEGIN")
        self.in_transaction = True

    def commit(self) -> None:
        """Commit the transaction, if one is open."""
        self._end("COMMIT")

    def rollback(self) -> None:
        """Roll back the transaction, if one is open."""
        self._end("ROLLBACK")

    def close(self) -> None:
        """Close; an open transaction is rolled back."""
        self.raw.close()

    def _end(self, sql: str) -> None:
        if self.in_transaction:
            self.in_transaction = False
            self.raw.execute(sql)


class Cursor:
    """A cursor; ``rowcount`` is the number of rows that a statement wrote, -1 for a query."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.rowcount = -1
        self.description: Sequence[Any] | None = None
        self.lastrowid = None

    def execute(self, sql: str, values: Any = ()) -> None:
        """Run a statement."""
        raw = self.connection.raw
        (statement,) = raw.extract_statements(sql)
        raw.execute(statement, list(values) if values else None)
        self.description, self.rowcount = raw.description, -1
        if duckdb.ExpectedResultType.QUERY_RESULT in statement.expected_result_type:
            if duckdb.ExpectedResultType.CHANGED_ROWS not in statement.expected_result_type:
                return
            if [column[0] for column in raw.description or ()] != ["Count"]:
                return  # RETURNING
        if duckdb.ExpectedResultType.CHANGED_ROWS in statement.expected_result_type:
            (self.rowcount,) = raw.fetchone() or (0,)
        self.description = None

    def executemany(self, sql: str, rows: Sequence[Any]) -> None:
        """Run a statement for each row."""
        count = 0
        for row in rows:
            self.execute(sql, row)
            count += max(0, self.rowcount)
        self.rowcount = count

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return self.connection.raw.fetchone()

    def fetchmany(self, size: int = 1) -> list[Any]:
        """Return up to ``size`` rows."""
        return self.connection.raw.fetchmany(size)

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return self.connection.raw.fetchall()

    def close(self) -> None:
        """Nothing: the connection holds the result."""
