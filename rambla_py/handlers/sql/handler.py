"""This module delivers to SQL databases: each message is a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.handler import Handler
from rambla_py.handlers.sql.settings import SqlConnection, SqlOptions, database_of
from rambla_py.handlers.sql.wire import SqlWire
from rambla_py.handlers.sql.writers import Row
from rambla_py.sql.errors import SqlError

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["SqlHandler"]


class SqlHandler(Handler):
    """Writes rows to SQLite, PostgreSQL, MySQL or MariaDB; a batch is one transaction.

    None of a batch is confirmed before all of it is committed: by COPY on PostgreSQL, by statements of many
    rows on MySQL and SQLite. A row that the database refuses (a constraint, a value that
    does not fit) is found by halving, with savepoints, and is fatal alone; the others are committed. A
    deadlock, a lock that is not given, a full disk fail the batch, and it is tried again. A table or a column
    that is not there is an error of connecting: messages wait until somebody has made it.

    At least once: a connection that is lost before the commit has applied nothing; when it is lost during the
    commit the outcome is unknown, and the batch may come twice, with the same ids. With ``upsert`` the second
    replaces the first. One worker writes rows in the order it was given.

    The result is None. A callable payload is given the driver's own connection, in autocommit.

    >>> SqlHandler.Options(table="orders", columns=["total", "city"], upsert=True).create_table
    False
    """

    Connection: ClassVar[Any] = SqlConnection
    Options: ClassVar[Any] = SqlOptions
    guarantee: ClassVar[str] = (
        "at least once; a batch is one transaction; after a loss during the commit a row may come twice, "
        "with the same id, and with upsert it replaces itself; in sequence within a worker, refused rows "
        "aside"
    )

    def connect(self) -> SqlWire:
        """Connect, and look at the table: it must have the columns that the options name."""
        return SqlWire(database_of(self.settings), self.options or SqlOptions(), self.channel)

    def close(self, connection: SqlWire) -> None:
        """Close the connection; from any thread."""
        connection.close()

    def ping(self, connection: SqlWire) -> None:
        """Ask the server for a row."""
        connection.ping()

    def destination(self, connection: SqlWire) -> Any:
        """Return the driver's connection: of sqlite3, psycopg or PyMySQL, in autocommit."""
        return connection.raw

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Write the rows of all messages in one transaction; errors stand in the place of their message."""
        wire: SqlWire = state.connection
        answers: list[Any] = [None] * len(messages)
        places: Sequence[int] = range(len(messages))
        try:
            rows = wire.rows.make_all(messages)
            wire.writer.check(rows)
        except Exception:  # of a payload's own code, too; whose it was is seen when each is made alone
            rows, places = _one_by_one(wire, messages, answers)
        if not rows:
            return answers
        try:
            for at, refused in wire.write(rows).items():
                answers[places[at]] = refused
        except SqlError as error:
            for place in places:
                answers[place] = error
        return answers


def _one_by_one(
    wire: SqlWire, messages: Sequence[Delivery], answers: list[Any]
) -> tuple[list[Row], list[int]]:
    """Return the rows that can be made, with their places; put the errors of the others among the answers."""
    rows, places = [], []
    for place, message in enumerate(messages):
        try:
            row = wire.rows.make(message)
            wire.writer.check([row])
        except Exception as error:  # what a payload's own code raises is the failure of its message alone
            answers[place] = error
            continue
        rows.append(row)
        places.append(place)
    return rows, places
