"""This module runs SQL on one database: pooled, retried, in transactions, from any thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import sqlalchemy
from sqlalchemy import exc
from sqlalchemy.pool import QueuePool
from sqlalchemy.sql.base import Executable

from rambla_py.encoding import to_json
from rambla_py.errors import OptionError, RamblaError
from rambla_py.sql.alchemy import READS, listen, made_key, mapped
from rambla_py.sql.database import Database, SqlTls
from rambla_py.sql.errors import (
    SqlAccessError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlError,
    SqlStatementError,
    SqlUnknownOutcomeError,
)
from rambla_py.sql.result import QueryResult
from rambla_py.sql.statement import Parameters, Prepared, prepare
from rambla_py.sql.transactions import Levels, Transaction
from rambla_py.sql.types import Converter, TypeMap

__all__ = ["SqlBackend"]

_T = TypeVar("_T")
_Result = tuple[list[dict[str, Any]], int, Any]
_AGAIN = (SqlConnectionLostError, SqlConflictError)
_FIRST_WAIT_S = 0.02
# Servers and firewalls end what was idle for hours, or minutes; the question takes as long as one statement.
_IDLE_S = 0.1
_USED_AT = "rambla_used_at"


class SqlBackend:
    """A database by URL: SQLite, PostgreSQL, MySQL or MariaDB. May be used by any number of threads.

    Statements are text with ``:name`` places, or ``?`` with a sequence of values, or expressions of
    SQLAlchemy's Core. Outside of a transaction each is one by itself; when the connection is lost before its
    commit, or another transaction is in the way (a deadlock, a serialization failure), it is tried again,
    ``retries`` times. Inside of one the error is raised: only ``run`` can do all of it again.

    ``read_timeout_s`` is the longest silence while an answer is due, on SQLite the longest wait for another
    writer: a statement that may take longer needs a larger one, or it ends as a loss, and is tried again.
    ``pool_size`` connections at most are open, and ``pool_timeout_s`` is the longest wait for one;
    ``converters`` teach it types of your own. A forked child gets connections of its own.

    Every error is a ``SqlError``, or an ``OptionError`` for an isolation level that there is not.

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
        pool_size: int = 10,
        pool_timeout_s: float = 30.0,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 10.0,
        tls: SqlTls | None = None,
        retries: int = 5,
        converters: Iterable[Converter[Any]] = (),
    ) -> None:
        self.database = Database(
            url, connect_timeout_s=connect_timeout_s, read_timeout_s=read_timeout_s, tls=tls
        )
        self.retries = retries
        self.last_error: SqlError | None = None
        self._pool_timeout_s = pool_timeout_s
        self._levels = Levels()
        self._in_use: set[sqlalchemy.Connection] = set()
        self._inherited: list[Any] = []
        self._owner = os.getpid()
        self._closed = False
        self._engine = self.database.engine(
            self.database.connect,
            poolclass=QueuePool,
            # A database in memory is its connection: all threads share it, one at a time.
            pool_size=1 if self.database.in_memory else pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            json_serializer=lambda value: to_json(value).decode(),
        )
        listen(self._engine, self.database.kind)
        self.types = TypeMap(self._engine.dialect, converters)

    def __repr__(self) -> str:
        return f"<SqlBackend {self.database.where}{', closed' if self._closed else ''}>"

    # -- connections --------------------------------------------------------------------------------

    def connect(self) -> Self:
        """Open a connection, to see that it can be done; needed only for that, and after ``disconnect``.

        Raises ``SqlConnectionLostError``, or ``SqlAccessError``.
        """
        self._closed = False
        with self._borrowed():
            return self

    def disconnect(self) -> None:
        """Close all connections that are not in use; those close when their transaction ends."""
        self._closed = True
        self._engine.dispose()

    def ping(self, *, reconnect: bool = True) -> bool:
        """Say whether the server answers; ``last_error`` holds the reason when it does not.

        A connection of the pool may be gone while the server is there: with ``reconnect`` fresh ones are made
        then, without it the answer is False.
        """
        for attempt in range(2 if reconnect else 1):
            try:
                with self._mapping(), self._borrowed() as connection:
                    connection.exec_driver_sql("SELECT 1")
                return True
            except SqlError as error:
                self.last_error = error
                if attempt == 0 and reconnect and not self._closed:
                    self._engine.dispose()
        return False

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
        """Run a statement and return its result; in the transaction that this thread has open, or by itself.

        ``params`` is a mapping for ``:name``, a sequence for ``?``, or a list of either for many rows.
        ``returning`` names columns of the rows that are written. ``column_types`` gives types for places and
        columns, by name: what goes in and what comes out is converted by them. A value without one goes by
        its class.
        """
        began = time.monotonic()
        here = self._here()
        if here.connection is not None:
            prepared = self._prepared(sql, params, returning, column_types)
            result = self._inside(here, here.connection, prepared)
        else:
            result = self._again(lambda: self._alone(sql, params, returning, column_types))
        data, affected_rows, last_insert_id = result
        return QueryResult(data, affected_rows, last_insert_id, time.monotonic() - began)

    # -- transactions -------------------------------------------------------------------------------

    def transaction(self, *, isolation: str | None = None) -> Transaction:
        """Return a transaction for a ``with`` block; inside of another it is a savepoint.

        ``isolation`` is ``"SERIALIZABLE"``, ``"REPEATABLE READ"``, ``"READ COMMITTED"`` or
        ``"READ UNCOMMITTED"``, as far as the database has it. On SQLite a transaction takes the right to
        write at its beginning, so that it never has to be given up in its midst.
        """
        level = self._isolation(isolation)
        return Transaction(self._here(), self._standing, self._give_back, self._mapped, level)

    def begin(self, *, isolation: str | None = None) -> Transaction:
        """Begin a transaction of this thread, or a savepoint in it."""
        return self.transaction(isolation=isolation).begin()

    def commit(self) -> None:
        """Commit what this thread began last."""
        self._innermost().commit()

    def rollback(self) -> None:
        """Roll back what this thread began last."""
        self._innermost().rollback()

    def run(
        self, work: Callable[[SqlBackend], _T], *, isolation: str | None = None, retries: int | None = None
    ) -> _T:
        """Return what ``work(self)`` returns in a transaction; after a conflict or a loss do all of it again.

        >>> with SqlBackend("sqlite://") as db:
        ...     db.run(lambda db: db.execute("select 1 as one").first)
        {'one': 1}
        """

        def once() -> _T:
            with self.transaction(isolation=isolation):
                return work(self)

        if self._here().connection is not None:
            return once()
        return self._again(once, retries)

    # -- inside -------------------------------------------------------------------------------------

    def _prepared(
        self, sql: Any, params: Any, returning: Sequence[str], column_types: Mapping[str, Any] | None
    ) -> Prepared:
        return prepare(
            sql,
            params,
            types=self.types,
            dialect=self._engine.dialect,
            returning=returning,
            column_types=column_types,
        )

    def _alone(self, sql: Any, params: Any, returning: Sequence[str], column_types: Any) -> _Result:
        with self._mapping(), self._borrowed() as connection:
            # Once connected: what RETURNING goes with is known from the server's version.
            prepared = self._prepared(sql, params, returning, column_types)
            if not prepared.writes:
                connection.info[READS] = True
            with connection.begin() as transaction:
                result = self._run(connection, prepared)
                try:
                    transaction.commit()
                except exc.DBAPIError as error:
                    mapped = self._mapped(error)
                    if prepared.writes and isinstance(mapped, SqlConnectionLostError):
                        text = f"lost before the answer to the commit: {mapped}"
                        raise SqlUnknownOutcomeError(text) from error
                    raise mapped from error
            return result

    def _inside(self, here: Levels, connection: sqlalchemy.Connection, prepared: Prepared) -> _Result:
        here.check()
        try:
            return self._run(connection, prepared)
        except SqlError as error:
            here.failed = error
            raise

    def _run(self, connection: sqlalchemy.Connection, prepared: Prepared) -> _Result:
        with self._mapping():
            result = connection.execute(
                prepared.statement, prepared.values, execution_options={"preserve_rowcount": True}
            )
            if not result.returns_rows:
                made = (
                    made_key(result) if prepared.inserts and not isinstance(prepared.values, list) else None
                )
                return [], max(0, result.rowcount) if prepared.writes else 0, made
            data = [dict(row) for row in result.mappings()]
            made = next(iter(data[-1].values()), None) if data and prepared.inserts else None
            return data, len(data) if prepared.writes else 0, made

    def _again(self, once: Callable[[], _T], retries: int | None = None) -> _T:
        left = self.retries if retries is None else retries
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return once()
            except _AGAIN as error:
                self.last_error = error
                if left <= 0 or self._closed or isinstance(error, SqlAccessError):
                    raise
            left -= 1
            time.sleep(wait_s)
            wait_s = min(wait_s * 2, 1.0)

    def _checkout(self, isolation: str | None) -> sqlalchemy.Connection:
        self._here()
        if self._closed:
            raise SqlConnectionLostError(f"{self.database.where} is not connected; call connect()")
        with self._mapping():
            connection = self._engine.connect()
            connection.info.pop(READS, None)
            try:
                if isolation is not None:
                    connection = connection.execution_options(isolation_level=isolation)
            except BaseException:
                connection.close()
                raise
        self._in_use.add(connection)
        return connection

    def _standing(self, isolation: str | None) -> sqlalchemy.Connection:
        """Return a connection for a transaction: one that was idle is asked first."""
        connection = self._checkout(isolation)
        used_at = connection.info.get(_USED_AT)
        if self.database.kind == "sqlite" or used_at is None or time.monotonic() - used_at < _IDLE_S:
            return connection
        try:
            if self._engine.dialect.do_ping(connection.connection.dbapi_connection):  # type: ignore[arg-type]
                return connection
        except Exception as error:
            self.last_error = self._mapped(error)
        connection.invalidate()
        self._give_back(connection)
        self._engine.dispose()
        return self._checkout(isolation)

    def _give_back(self, connection: sqlalchemy.Connection) -> None:
        self._in_use.discard(connection)
        if not connection.invalidated:
            connection.info[_USED_AT] = time.monotonic()
        connection.close()

    @contextmanager
    def _borrowed(self) -> Iterator[sqlalchemy.Connection]:
        connection = self._checkout(None)
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _here(self) -> Levels:
        """Return what this thread has open; in a forked child nothing, whatever its parent had.

        The child keeps the parent's connections and never uses them: to end one, as the collector of garbage
        would, is to end it for the parent.
        """
        if os.getpid() != self._owner:
            self._inherited += [self._in_use, self._levels, self._engine.pool]
            self._owner, self._in_use, self._levels = os.getpid(), set(), Levels()
            self._engine.dispose(close=False)
        return self._levels

    def _isolation(self, wanted: str | None) -> str | None:
        if wanted is None:
            return None
        name = wanted.upper().replace("_", " ")
        known = sorted(
            set(self._engine.dialect.get_isolation_level_values(None)) - {"AUTOCOMMIT"}  # type: ignore[arg-type]
        )
        if name not in known:
            where = self.database.kind
            raise OptionError("isolation", f"{where} has no {wanted!r}, but {', '.join(known)}", known=known)
        return name

    def _innermost(self) -> Transaction:
        opened = self._here().open
        if not opened:
            raise SqlStatementError("no transaction is open in this thread")
        return opened[-1]

    @contextmanager
    def _mapping(self) -> Iterator[None]:
        try:
            yield
        except RamblaError:
            raise
        except exc.SQLAlchemyError as error:
            raise self._mapped(error) from error

    def _mapped(self, error: BaseException) -> SqlError:
        return mapped(error, self._pool_timeout_s)
