"""Writing of rows in bulk over a driver's connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from rambla_py.sql.errors import SqlConnectionLostError, SqlError, SqlUnknownOutcomeError

__all__ = [
    "BulkWriter",
    "DbapiWriter",
    "DriverErrors",
    "Row",
    "Statements",
    "TransactionWriter",
    "unknown_outcome",
]

Row = tuple[Any, ...]
MapError = Callable[[BaseException], SqlError]


class Statements(NamedTuple):
    """Statements that write rows of ``width`` columns to ``table``: INSERT in parts, and COPY.

    ``probe`` writes nothing: it fails, or returns no row, if the key of the upsert is not unique.

    >>> made = Statements("t", 2, head="INSERT INTO t (a, b)", row="(?, ?)")
    >>> made.insert
    'INSERT INTO t (a, b) VALUES (?, ?)'
    """

    table: str
    width: int
    head: str
    row: str
    suffix: str = ""
    copy: str = ""
    probe: str = ""

    @property
    def insert(self) -> str:
        """The statement for one row."""
        return self.insert_many(1)

    def insert_many(self, rows: int) -> str:
        """Return the statement for a number of rows, value by value."""
        return f"{self.head} VALUES {', '.join([self.row] * rows)}{self.suffix}"


class BulkWriter(Protocol):
    """Writes rows in transactions; raises ``SqlError``.

    ``write_all`` is a transaction of its own, in as few round trips as the database allows. A loss before the
    commit is a ``SqlConnectionLostError``, one during it a ``SqlUnknownOutcomeError``.
    """

    def write_all(self, rows: Sequence[Row]) -> None:
        """Write rows in a transaction of their own: all of them, or none."""

    def begin(self) -> None:
        """Begin a transaction."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows in the transaction."""

    def commit(self) -> None:
        """Commit the transaction; it has ended, whatever is raised."""

    def rollback(self) -> None:
        """Roll the transaction back; never raises."""

    def savepoint(self) -> None:
        """Set a savepoint."""

    def release(self) -> None:
        """Release the savepoint."""

    def rollback_to(self) -> None:
        """Roll back to the savepoint."""

    def check(self, rows: Sequence[Row]) -> None:
        """Raise ``SqlTooLargeError`` if the server would not accept a row."""


class DriverErrors:
    """A context manager that raises errors of a driver as ``SqlError``, and lets a ``SqlError`` pass.

    >>> with DriverErrors(lambda error: SqlError(str(error))):
    ...     raise ValueError("no")
    Traceback (most recent call last):
    rambla_py.sql.errors.SqlError: no
    """

    __slots__ = ("_map_error",)

    def __init__(self, map_error: MapError) -> None:
        self._map_error = map_error

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, SqlError):
            raise self._map_error(error) from error


class TransactionWriter:
    """Base of the writers: transactions in plain SQL, with errors mapped.

    ``connection`` is the driver's, ``statements`` write the rows, ``errors`` is the context for driver calls.
    """

    def __init__(
        self, raw: Any, texts: Statements, execute: Callable[[str], Any], map_error: MapError
    ) -> None:
        self.connection, self.statements, self._execute = raw, texts, execute
        self.errors = DriverErrors(map_error)

    def write_all(self, rows: Sequence[Row]) -> None:
        self.begin()
        try:
            self.write(rows)
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def write(self, rows: Sequence[Row]) -> None:
        raise NotImplementedError

    def begin(self) -> None:
        self._do("BEGIN")

    def commit(self) -> None:
        try:
            self._commit()
        except SqlConnectionLostError as error:
            raise unknown_outcome(error) from error
        except SqlError:
            self.rollback()
            raise

    def rollback(self) -> None:
        # If this fails, the server ends the transaction with the connection.
        with suppress(SqlError):
            self._do("ROLLBACK")

    def savepoint(self) -> None:
        self._do("SAVEPOINT rambla")

    def release(self) -> None:
        self._do("RELEASE SAVEPOINT rambla")

    def rollback_to(self) -> None:
        self._do("ROLLBACK TO SAVEPOINT rambla")

    def check(self, rows: Sequence[Row]) -> None:
        """Let the server check."""

    def _commit(self) -> None:
        self._do("COMMIT")

    def _do(self, text: str) -> None:
        with self.errors:
            self._execute(text)


class DbapiWriter(TransactionWriter):
    """Writes with ``executemany`` of any DBAPI driver, whose connection begins transactions by itself."""

    def __init__(self, raw: Any, texts: Statements, map_error: MapError) -> None:
        self._cursor = raw.cursor()
        super().__init__(raw, texts, self._cursor.execute, map_error)

    def begin(self) -> None:
        """Nothing: the first statement begins it."""

    def write(self, rows: Sequence[Row]) -> None:
        with self.errors:
            self._cursor.executemany(self.statements.insert, rows)

    def rollback(self) -> None:
        with suppress(Exception):
            self.connection.rollback()

    def _commit(self) -> None:
        with self.errors:
            self.connection.commit()


def unknown_outcome(error: BaseException) -> SqlUnknownOutcomeError:
    """Return the error of a commit without an answer."""
    return SqlUnknownOutcomeError(f"the connection was lost before the answer to the commit: {error}")
