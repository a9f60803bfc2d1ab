"""``SqlBackend``: a database for threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.base import Executable

from rambla_py._internal.tls import TlsTable
from rambla_py.sql.alchemy import listen
from rambla_py.sql.database import checked_database
from rambla_py.sql.errors import SqlError
from rambla_py.sql.executor import Executor
from rambla_py.sql.parameters import Parameters
from rambla_py.sql.result import QueryResult
from rambla_py.sql.stream import RowStream
from rambla_py.sql.transactions import Levels, Transaction
from rambla_py.sql.types import Converter, TypeMap

__all__ = ["SqlBackend"]

_T = TypeVar("_T")


class SqlBackend:
    """A database by URL: SQLite, PostgreSQL, MySQL, MariaDB, or one with a dialect of yours. Thread-safe.

    ``url`` may be complete, or name the database only (``"postgresql"``) beside ``host``, ``port``,
    ``database``, ``username``, ``password`` and ``charset``, which need no percent-encoding.

    Statements are text with ``:name`` placeholders, or with ``?`` and a list of values, or expressions of
    SQLAlchemy Core. Outside a transaction each statement is a transaction of its own. If the connection is
    lost before its commit, or another transaction is in the way (a deadlock, a serialization failure), it is
    retried ``retries`` times. Inside a transaction the error is raised; only ``run`` can repeat all of it.

    ``read_timeout_s`` bounds the wait for the server's answer, on SQLite the wait for another writer: a
    statement that takes longer is cancelled and retried. At most ``pool_size`` connections are open, and
    ``pool_timeout_s`` bounds the wait for one. ``converters`` add types. A forked child gets its own
    connections.

    Every error is a ``SqlError``: ``SqlOptionError`` for a URL, an option or an isolation level.

    >>> with SqlBackend("sqlite://") as db:
    ...     _ = db.execute("create table t (id integer primary key, name text)")
    ...     _ = db.execute("insert into t (name) values (:name)", {"name": "Ada"})
    ...     db.execute("select * from t where name = ?", ["Ada"]).data
    [{'id': 1, 'name': 'Ada'}]
    """

    def __init__(
        self,
        url: str,
        *,
        host: str | None = None,
        port: int | None = None,
        database: str | None = None,
        username: str | None = None,
        password: str | None = None,
        charset: str | None = None,
        pool_size: int = 10,
        pool_timeout_s: float = 30.0,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
        tls: TlsTable | None = None,
        retries: int = 5,
        converters: Iterable[Converter[Any]] = (),
    ) -> None:
        self.database = checked_database(
            url,
            {
                "host": host,
                "port": port,
                "database": database,
                "username": username,
                "password": password,
                "charset": charset,
            },
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            tls=tls,
            pool_size=pool_size,
        )
        engine = self.database.engine(
            self.database.connect,
            poolclass=QueuePool,
            pool_size=self.database.pool_size(pool_size),
            max_overflow=0,
            pool_timeout=pool_timeout_s,
        )
        listen(engine, self.database)
        self._executor = Executor(
            self.database, engine, retries=retries, pool_timeout_s=pool_timeout_s, converters=converters
        )
        self._local = threading.local()
        self._inherited: list[Any] = []
        self._owner = os.getpid()

    def __repr__(self) -> str:
        return f"<SqlBackend {self.database.where}{', closed' if self._executor.closed else ''}>"

    @property
    def types(self) -> TypeMap:
        """The types of this database."""
        return self._executor.types

    @property
    def last_error(self) -> SqlError | None:
        """The error of the last failed ``ping`` or attempt, or None."""
        return self._executor.last_error

    # -- connections --------------------------------------------------------------------------------

    def connect(self) -> Self:
        """Open a connection, as a check; needed only for that, and after ``disconnect``.

        Raises ``SqlConnectionLostError``, or ``SqlAccessError``.
        """
        self._levels()
        self._executor.connect()
        return self

    def disconnect(self) -> None:
        """Close all connections that are not in use; those close when their transaction ends."""
        self._executor.disconnect()

    def ping(self, *, reconnect: bool = True) -> bool:
        """Return whether the server answers; ``last_error`` has the reason if it does not.

        With ``reconnect`` lost connections of the pool are replaced, and a backend that was disconnected
        connects again; without it the result is then False.
        """
        self._levels()
        return self._executor.ping(reconnect=reconnect)

    def __enter__(self) -> Self:
        return self.connect()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    # -- statements ---------------------------------------------------------------------------------

    def execute(
        self,
        sql: str | Executable,
        params: Parameters = None,
        *,
        returning: Sequence[str] = (),
        column_types: Mapping[str, Any] | None = None,
    ) -> QueryResult:
        """Run a statement in this thread's open transaction, or in one of its own.

        ``params`` is a mapping for ``:name``, a list of values for ``?``, or a list of mappings for many
        rows. Each placeholder must have a value, and each value a placeholder. ``returning`` names columns of
        the written rows to return. ``column_types`` gives types by the names of placeholders and of columns
        of the result; other values are converted by their class.
        """
        return self._executor.execute(
            self._levels(), sql, params, returning=returning, column_types=column_types
        )

    def execute_many(
        self,
        sql: str | Executable,
        rows: Iterable[Mapping[str, Any] | Sequence[Any]],
        *,
        column_types: Mapping[str, Any] | None = None,
    ) -> QueryResult:
        """Run a statement once for each row, all in one transaction; a row is a mapping or a list of values.

        >>> with SqlBackend("sqlite://") as db:
        ...     _ = db.execute("create table t (a integer, b text)")
        ...     db.execute_many("insert into t values (?, ?)", [[1, "x"], [2, "y"]]).affected_rows
        2
        """
        return self._executor.execute(self._levels(), sql, rows, many=True, column_types=column_types)

    def stream(
        self,
        sql: str | Executable,
        params: Parameters = None,
        *,
        column_types: Mapping[str, Any] | None = None,
        batch_size: int = 1_000,
    ) -> RowStream:
        """Run a query and return an iterator over its rows, of which ``batch_size`` are in memory.

        Outside a transaction it holds a connection until its last row or ``close``. A loss after the first
        batch is raised; before that the query is retried.

        >>> with SqlBackend("sqlite://") as db, db.stream("select 1 as one union select 2") as rows:
        ...     sum(row["one"] for row in rows)
        3
        """
        return RowStream(self._executor, self._levels(), sql, params, column_types, batch_size)

    # -- transactions -------------------------------------------------------------------------------

    def transaction(self, *, isolation: str | None = None) -> Transaction:
        """Return a transaction for a ``with`` block; inside another one it is a savepoint.

        ``isolation`` is ``"SERIALIZABLE"``, ``"REPEATABLE READ"``, ``"READ COMMITTED"`` or
        ``"READ UNCOMMITTED"``, as far as the database has it. On SQLite a transaction takes the write lock
        when it begins, so that it never fails later because another one has written meanwhile.
        """
        return self._executor.transaction(self._levels(), isolation)

    def begin(self, *, isolation: str | None = None) -> Transaction:
        """Begin a transaction of this thread, or a savepoint in it."""
        return self.transaction(isolation=isolation).begin()

    def commit(self) -> None:
        """Commit the transaction or savepoint that this thread began last."""
        self._levels().innermost.commit()

    def rollback(self) -> None:
        """Roll back the transaction or savepoint that this thread began last."""
        self._levels().innermost.rollback()

    def run(
        self, work: Callable[[SqlBackend], _T], *, isolation: str | None = None, retries: int | None = None
    ) -> _T:
        """Return what ``work(self)`` returns in a transaction; after a conflict or a loss repeat all of it.

        >>> with SqlBackend("sqlite://") as db:
        ...     db.run(lambda db: db.execute("select 1 as one").first)
        {'one': 1}
        """

        def once() -> _T:
            with self.transaction(isolation=isolation):
                return work(self)

        if self._levels().connection is not None:
            return once()
        return self._executor.again(once, retries)

    # -- inside -------------------------------------------------------------------------------------

    def _levels(self) -> Levels:
        """Return what this thread has open; nothing in a forked child, whatever its parent had open.

        The child keeps the parent's connections without using them: closing one, as the garbage collector
        would, would end it for the parent.
        """
        executor = self._executor
        if os.getpid() != self._owner:
            self._inherited += [executor.in_use, self._local, executor.engine.pool]
            self._owner, executor.in_use, self._local = os.getpid(), set(), threading.local()
            executor.engine.dispose(close=False)
        levels: Levels | None = getattr(self._local, "levels", None)
        if levels is None:
            levels = self._local.levels = Levels()
        return levels
