"""This module writes rows over a live connection of one of the drivers, with statements made once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Protocol

from rambla_py.handlers.sql.statements import Statements
from rambla_py.sql.errors import SqlConnectionLostError, SqlError, SqlTooLargeError, SqlUnknownOutcomeError
from rambla_py.sql.mapping import sql_error
from rambla_py.turn import begin_writing

__all__ = ["MysqlWriter", "Row", "SqliteWriter", "TransactionWriter", "Writer", "unknown"]

Row = tuple[Any, ...]


class Writer(Protocol):
    """Writes rows in transactions; what it raises is a ``SqlError``.

    ``write_all`` is a transaction of its own, in as few exchanges as the database allows. A loss before the
    commit is a ``SqlConnectionLostError``, one during it a ``SqlUnknownOutcomeError``.
    """

    def write_all(self, rows: Sequence[Row]) -> None:
        """Write rows in a transaction of their own: all of them, or none."""

    def begin(self) -> None:
        """Begin a transaction."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows inside of it."""

    def commit(self) -> None:
        """Commit it; whatever is raised, it has ended."""

    def rollback(self) -> None:
        """Undo it; raises nothing."""

    def savepoint(self) -> None:
        """Remember this point of it."""

    def release(self) -> None:
        """Keep what was written since."""

    def rollback_to(self) -> None:
        """Undo what was written since."""

    def check(self, rows: Sequence[Row]) -> None:
        """Raise ``SqlTooLargeError`` when there is a row that the server would not take."""


class TransactionWriter:
    """What the writers of all databases share: transactions in plain SQL, with errors mapped."""

    def __init__(self, raw: Any, texts: Statements, execute: Callable[[str], Any]) -> None:
        self._raw, self._texts, self._execute = raw, texts, execute

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
            self._do("COMMIT")
        except SqlConnectionLostError as error:
            raise unknown(error) from error
        except SqlError:
            self.rollback()
            raise

    def rollback(self) -> None:
        # Whatever it was, the server has ended the transaction, or ends it with the connection.
        with suppress(SqlError):
            self._do("ROLLBACK")

    def savepoint(self) -> None:
        self._do("SAVEPOINT rambla")

    def release(self) -> None:
        self._do("RELEASE SAVEPOINT rambla")

    def rollback_to(self) -> None:
        self._do("ROLLBACK TO SAVEPOINT rambla")

    def check(self, rows: Sequence[Row]) -> None:
        """Leave it to the server."""

    def _do(self, text: str) -> None:
        try:
            self._execute(text)
        except Exception as error:
            raise sql_error(error) from error


def unknown(error: BaseException) -> SqlUnknownOutcomeError:
    """Return the error of a commit whose answer did not come."""
    return SqlUnknownOutcomeError(f"the connection was lost before the answer to the commit: {error}")


_AT_ONCE = 25
"""Rows of one statement of SQLite's: more of them gain nothing."""

_PLACES = 999
"""Places of values that every SQLite has in one statement."""


class SqliteWriter(TransactionWriter):
    """Writes statements of some rows each, compiled once.

    A statement of 25 rows costs a quarter less than 25 steps of ``executemany``, and it lets go of the
    interpreter's lock once: a publisher that takes it meanwhile keeps it for 5 ms.
    """

    def __init__(self, raw: Any, texts: Statements) -> None:
        super().__init__(raw, texts, raw.execute)
        self._at_once = max(1, min(_AT_ONCE, _PLACES // texts.width))
        self._insert_some = texts.insert_many(self._at_once)

    def begin(self) -> None:
        """Begin as a writer at once: a read lock could not be turned into a write lock later."""
        try:
            begin_writing(self._raw)
        except Exception as error:
            raise sql_error(error) from error

    def write(self, rows: Sequence[Row]) -> None:
        some = self._at_once
        rest = len(rows) % some
        try:
            for first in range(0, len(rows) - rest, some):
                self._raw.execute(self._insert_some, [*chain.from_iterable(rows[first : first + some])])
            self._raw.executemany(self._texts.insert, rows[len(rows) - rest :])
        except Exception as error:
            raise sql_error(error) from error


class MysqlWriter(TransactionWriter):
    """Writes statements of many rows, each as long as ``max_allowed_packet`` allows, and 1 MB at most."""

    def __init__(self, raw: Any, texts: Statements) -> None:
        self._cursor = raw.cursor()
        super().__init__(raw, texts, self._cursor.execute)
        self._cursor.execute("SELECT @@max_allowed_packet, @@sql_mode")
        self._packet, mode = self._cursor.fetchone()
        if "STRICT_ALL_TABLES" not in mode:
            # Otherwise the server cuts a value that does not fit, and says that it is well; in a table
            # without transactions it does so under STRICT_TRANS_TABLES, too.
            self._cursor.execute("SET SESSION sql_mode = CONCAT_WS(',', @@sql_mode, 'STRICT_ALL_TABLES')")
        self._cursor.max_stmt_length = min(1_000_000, self._packet - 1_024)

    def write(self, rows: Sequence[Row]) -> None:
        try:
            self._cursor.executemany(self._texts.insert, rows)
        except Exception as error:
            raise sql_error(error) from error

    def check(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._check(row)

    def _check(self, row: Row) -> None:
        size = sum(len(value) for value in row if isinstance(value, str | bytes))
        if size * 4 < self._packet - 10_000:
            return
        # A server that is sent more closes the connection, which would look like a loss.
        text = self._cursor.mogrify(self._texts.insert, row)
        size = len(text.encode(errors="replace"))
        if size >= self._packet:
            told = f"the row has {size} bytes; the server's limit, max_allowed_packet, is {self._packet}"
            raise SqlTooLargeError(told, size=size, limit=self._packet)
