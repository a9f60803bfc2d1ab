"""Connections of sqlite3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rambla_py.outbox.transactional.drivers.base import no_transaction, question_mark
from rambla_py.outbox.transactional.statements import Dialect, Query

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Sqlite3Binding"]


class Sqlite3Binding:
    """A ``sqlite3.Connection``, or a cursor of one."""

    name = "sqlite3"
    guesses_types = False

    def __init__(self, given: Any) -> None:
        self._connection: sqlite3.Connection = getattr(given, "connection", given)

    def dialect(self) -> Dialect:
        """Return ``"sqlite"``."""
        return "sqlite"

    def check(self) -> None:
        """Raise ``NoTransactionError`` unless a transaction is open."""
        try:
            is_open = self._connection.in_transaction
            self._connection.total_changes  # noqa: B018 - raises for a closed connection, as in_transaction does not
        except Exception as error:
            raise no_transaction(self.name, "the connection is closed") from error
        if not is_open:
            raise no_transaction(self.name, "no transaction is open")

    def run(self, query: Query) -> list[Any]:
        """Run a statement, and return its rows."""
        cursor = self._connection.cursor()
        try:
            cursor.row_factory = None
            return cursor.execute(query.sql(question_mark), query.parameters).fetchall()
        finally:
            cursor.close()
