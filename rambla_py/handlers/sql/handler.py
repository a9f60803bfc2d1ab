"""The ``sql`` handler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py._internal.tls import tls_table
from rambla_py.described import Described
from rambla_py.handler import Handler, secret_text
from rambla_py.handlers.sql.connection import SqlConnection
from rambla_py.handlers.sql.preflight import look
from rambla_py.handlers.sql.settings import SqlOptions, SqlSettings, database_of
from rambla_py.sql.backend import SqlBackend
from rambla_py.sql.bulk import Row
from rambla_py.sql.errors import SqlDataError, SqlError, SqlUnavailableError

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, State

__all__ = ["SqlHandler"]

_Placed = tuple[Sequence[Row], Sequence[int]]
"""Rows, and the places of their messages in the batch."""


class SqlHandler(Handler):
    """Writes rows to SQLite, PostgreSQL, MySQL or MariaDB; a batch is one transaction.

    Messages are confirmed when their batch is committed: by COPY on PostgreSQL, by statements of many rows on
    MySQL and SQLite. A row that the database refuses (a constraint, a value that does not fit) is found by
    halving, with savepoints, and is fatal alone; the others are committed. After a deadlock the batch is
    retried. A database that cannot be written to now (read-only, disk full, a locked table, a statement that
    takes longer than ``read_timeout_s``) is unavailable: messages wait without using up retries. Where only
    some rows are locked by another session, only their messages wait. A missing table, column or permission
    takes the channel ``down``.

    At least once: a connection that is lost before the commit has applied nothing; when it is lost during the
    commit the outcome is unknown, and the batch may be written twice, with the same ids. With ``upsert`` the
    second row replaces the first. A statement that takes too long is cancelled in the server. One worker
    writes rows in the order of its messages.

    The result is None. A callable payload is called with the driver's connection, in autocommit.

    >>> SqlHandler.Options(table="orders", columns=["total", "city"], upsert=True).create_table
    False
    """

    Connection: ClassVar[Any] = SqlSettings
    Options: ClassVar[Any] = SqlOptions
    guarantee: ClassVar[str] = (
        "at least once; a batch is one transaction; after a loss during the commit a row may be written "
        "twice, with the same id, and with upsert it replaces itself; in order within a worker, refused rows "
        "aside"
    )

    def __init__(self, settings: Any, **where: Any) -> None:
        super().__init__(settings, **where)
        self._database = database_of(settings)

    @staticmethod
    def backend(settings: SqlSettings) -> SqlBackend:
        """Return a backend for the database of a connection.

        >>> from rambla_py.handler import Secret
        >>> SqlHandler.backend(SqlSettings(url=Secret("sqlite:///shop.db")))
        <SqlBackend sqlite at shop.db>
        """
        return SqlBackend(**SqlHandler.backend_arguments(settings))

    @staticmethod
    def backend_arguments(settings: SqlSettings) -> dict[str, Any]:
        """Return the arguments of ``backend``, for another class of backends.

        >>> from rambla_py.handler import Secret
        >>> SqlHandler.backend_arguments(SqlSettings(url=Secret("sqlite:///shop.db")))["read_timeout_s"]
        10.0
        """
        return {
            "url": secret_text(settings.url) or "",
            "tls": tls_table(settings.tls),
            "connect_timeout_s": settings.connect_timeout_s,
            "read_timeout_s": settings.read_timeout_s,
        }

    def describe(self, options: Any) -> Described:
        """Return the database, and the table."""
        table = options.table or next(iter(options.tables or ()), None) or self.channel
        scheme = (secret_text(self.settings.url) or "").split(":", maxsplit=1)[0].split("+")[0].lower()
        system = "postgresql" if scheme == "postgres" else scheme
        return Described.of(self, "rambla", table, {"db.system.name": system, "db.collection.name": table})

    def connect(self) -> SqlConnection:
        """Connect, and check that the table has the columns of the options."""
        options = self.options or SqlOptions()
        return SqlConnection(self._database, options, self.channel, dry_run=self.dry_run)

    def close(self, connection: SqlConnection) -> None:
        """Close the connection; from any thread."""
        connection.close()

    def ping(self, connection: SqlConnection) -> None:
        """Run ``SELECT 1``."""
        connection.resume()
        connection.ping()

    def preflight(self, connection: SqlConnection, report: Preflight) -> None:
        """Explain an insert, which needs the right to insert."""
        if connection.missing is not None:
            report.would_create(connection.missing)
        else:
            for statements in connection.statements:
                look(connection.raw, connection.database, statements, report)

    def destination(self, connection: SqlConnection) -> Any:
        """Return the connection of sqlite3, psycopg or PyMySQL, in autocommit."""
        connection.resume()
        connection.waits.lift()
        return connection.raw

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Write the rows of all messages in one transaction; return an error or None for each."""
        connection: SqlConnection = state.connection
        connection.resume()
        answers: list[Any] = [None] * len(messages)
        places: Sequence[int] = range(len(messages))
        try:
            rows = connection.rows.make_all(messages)
            connection.writer.check(rows)
        except Exception:  # also of code of a payload; making each row alone shows which
            rows, places = _one_by_one(connection, messages, answers)
            _recheck(connection, answers)
        if not rows:
            return answers
        if connection.waits.seen:
            together, apart = _set_apart(messages, rows, places)
            self._write(connection, together, answers)
            self._write(connection, apart, answers, each=True)
        else:
            self._write(connection, (rows, places), answers)
        return answers

    def _write(
        self, connection: SqlConnection, placed: _Placed, answers: list[Any], *, each: bool = False
    ) -> None:
        rows, places = placed
        if not rows:
            return
        try:
            for at, refused in connection.write(rows, each=each).items():
                answers[places[at]] = refused
        except SqlError as error:
            for place in places:
                answers[place] = error
            if isinstance(error, SqlUnavailableError) and error.ends_session:
                self.link.lost(error)


def _set_apart(
    messages: Sequence[Delivery], rows: Sequence[Row], places: Sequence[int]
) -> tuple[_Placed, _Placed]:
    """Return rows with their places: those to be written together, and those that were refused alone."""
    apart = {at for at, message in enumerate(messages) if message.attempts > 1 and message.alone}
    kept: tuple[list[tuple[Row, int]], list[tuple[Row, int]]] = [], []
    for row, place in zip(rows, places, strict=True):
        kept[place in apart].append((row, place))
    together, alone = (([row for row, _ in one], [place for _, place in one]) for one in kept)
    return together, alone


def _recheck(connection: SqlConnection, answers: list[Any]) -> None:
    """Put the loss of the connection in the place of refused values, if the table was changed since."""
    refused = [at for at, answer in enumerate(answers) if isinstance(answer, SqlDataError)]
    if refused and (lost := connection.recheck()) is not None:
        for at in refused:
            answers[at] = lost


def _one_by_one(
    connection: SqlConnection, messages: Sequence[Delivery], answers: list[Any]
) -> tuple[list[Row], list[int]]:
    """Return the rows that can be made, with their places; put the errors of the others in ``answers``."""
    rows, places = [], []
    for place, message in enumerate(messages):
        try:
            row = connection.rows.make(message)
            connection.writer.check([row])
        except Exception as error:  # code of a payload may raise anything, for its message only
            answers[place] = error
            continue
        rows.append(row)
        places.append(place)
    return rows, places
