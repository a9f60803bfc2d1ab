"""Execution of statements on pooled connections, with retries and transactions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import exc

from rambla_py.sql.alchemy import READS, generated_key, mapped
from rambla_py.sql.database import Database
from rambla_py.sql.errors import (
    SqlAccessError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlError,
    SqlOptionError,
    SqlStatementError,
    SqlUnavailableError,
    SqlUnknownOutcomeError,
)
from rambla_py.sql.parameters import Parameters
from rambla_py.sql.result import QueryResult, check_columns
from rambla_py.sql.statement import Prepared, prepare
from rambla_py.sql.transactions import Levels, Transaction
from rambla_py.sql.types import Converter, TypeMap

__all__ = ["Executor"]

_T = TypeVar("_T")
_Result = tuple[list[dict[str, Any]], int, Any]
_RETRIED = (SqlConnectionLostError, SqlConflictError, SqlUnavailableError)
_FIRST_WAIT_S = 0.02
_MAX_WAIT_S = 1.0
# Servers and firewalls close connections that were idle for minutes or hours. The test costs one round trip.
_IDLE_S = 0.1
_USED_AT = "rambla_used_at"


class Executor:
    """Runs statements for ``SqlBackend`` and ``AsyncSqlBackend`` over an engine of SQLAlchemy.

    The caller passes its ``Levels``: what its thread or task has open. ``sleep`` waits between retries. All
    methods raise ``SqlError`` only, except for what the ``work`` of ``run`` raises.
    """

    def __init__(
        self,
        database: Database,
        engine: sqlalchemy.Engine,
        *,
        retries: int,
        pool_timeout_s: float,
        converters: Iterable[Converter[Any]],
        sleep: Callable[[float], Any] = time.sleep,
    ) -> None:
        self.database, self.engine, self.retries = database, engine, retries
        self.types = TypeMap(engine.dialect, converters, names=database.dialect.types)
        self.last_error: SqlError | None = None
        self.closed = False
        self.in_use: set[sqlalchemy.Connection] = set()
        self._pool_timeout_s, self._sleep = pool_timeout_s, sleep
        self._dialect = database.dialect

    # -- connections --------------------------------------------------------------------------------

    def connect(self) -> None:
        """Open a connection, as a check."""
        self.closed = False
        with self._borrowed():
            pass

    def disconnect(self) -> None:
        """Close the idle connections; those in use are closed when they are returned."""
        self.closed = True
        self.engine.dispose()

    def ping(self, *, reconnect: bool) -> bool:
        """Return whether the server answers; with ``reconnect`` over fresh connections where needed."""
        if reconnect:
            self.closed = False
        for attempt in range(2 if reconnect else 1):
            try:
                with self._borrowed() as connection, self.mapping():
                    connection.execute(sqlalchemy.select(sqlalchemy.literal_column("1")))
                return True
            except SqlError as error:
                self.last_error = error
                if attempt == 0 and reconnect:
                    self.engine.dispose()
        return False

    # -- statements ---------------------------------------------------------------------------------

    def execute(
        self,
        levels: Levels,
        sql: Any,
        params: Any = None,
        *,
        many: bool = False,
        returning: Sequence[str] = (),
        column_types: Mapping[str, Any] | None = None,
    ) -> QueryResult:
        """Run a statement in the open transaction, or in one of its own."""
        began = time.monotonic()

        def prepared() -> Prepared:
            return self._prepared(sql, params, many, returning, column_types)

        if levels.connection is not None:
            data, affected_rows, last_insert_id = self._inside(levels, levels.connection, prepared())
        else:
            data, affected_rows, last_insert_id = self.again(lambda: self._alone(prepared))
        return QueryResult(data, affected_rows, last_insert_id, time.monotonic() - began)

    def query(self, sql: Any, params: Parameters, column_types: Mapping[str, Any] | None) -> Prepared:
        """Prepare a statement for ``RowStream``; it must only read."""
        prepared = self._prepared(sql, params, False, (), column_types)
        if prepared.writes:
            raise SqlStatementError("stream() goes with queries; use execute() for a statement that writes")
        return prepared

    # -- transactions -------------------------------------------------------------------------------

    def transaction(self, levels: Levels, isolation: str | None) -> Transaction:
        """Return a transaction, not begun yet."""
        level = self._isolation(isolation)
        return Transaction(levels, self, level)

    def again(self, once: Callable[[], _T], retries: int | None = None) -> _T:
        """Return what ``once()`` returns; after a conflict, a loss or an unavailable answer call it again."""
        left = self.retries if retries is None else retries
        for wait_s in waits(left):
            try:
                return once()
            except _RETRIED as error:
                if not self.may_retry(error):
                    raise
            self._sleep(wait_s)
        try:
            return once()
        except SqlError as error:
            self.last_error = error
            raise

    def may_retry(self, error: BaseException) -> bool:
        """Record an error, and return whether another attempt may succeed."""
        if not isinstance(error, _RETRIED):
            return False
        self.last_error = error
        return not self.closed and not isinstance(error, SqlAccessError)

    # -- for streams, and for the two backends ------------------------------------------------------

    def checkout(self, isolation: str | None = None) -> sqlalchemy.Connection:
        """Return a connection of the pool."""
        if self.closed:
            raise SqlConnectionLostError(f"{self.database.where} is not connected; call connect()")
        with self.mapping():
            connection = self.engine.connect()
            connection.info.pop(READS, None)
            try:
                if isolation is not None:
                    connection = connection.execution_options(isolation_level=isolation)
            except BaseException:
                connection.close()
                raise
        self.in_use.add(connection)
        return connection

    def give_back(self, connection: sqlalchemy.Connection) -> None:
        """Return a connection to the pool."""
        self.in_use.discard(connection)
        if not connection.invalidated:
            connection.info[_USED_AT] = time.monotonic()
        with self.mapping():
            connection.close()

    def check(self, levels: Levels) -> None:
        """Raise if an error has ended the open transaction: the database would keep nothing of what follows.

        Code that catches the error and continues would not notice otherwise: the COMMIT succeeds, and on
        SQLite and MySQL the later statements are a transaction of their own.
        """
        connection, failed = levels.connection, levels.failed
        if connection is None or failed is None or connection.invalidated:
            return
        if self._dialect.has_ended(connection.connection.dbapi_connection, failed):
            raise type(failed)(f"an earlier error has ended this transaction: {failed}")

    def mapped(self, error: BaseException) -> SqlError:
        """Return the error for one of SQLAlchemy, of the driver, or of a conversion."""
        return mapped(error, self.database, self._pool_timeout_s)

    @contextmanager
    def mapping(self) -> Iterator[None]:
        """Raise any error inside as a ``SqlError``."""
        try:
            yield
        except SqlError:
            raise
        except Exception as error:
            raise self.mapped(error) from error

    # -- inside -------------------------------------------------------------------------------------

    def _prepared(
        self,
        sql: Any,
        params: Any,
        many: bool,
        returning: Sequence[str],
        column_types: Mapping[str, Any] | None,
    ) -> Prepared:
        with self.mapping():
            return prepare(
                sql,
                params,
                types=self.types,
                alchemy=self.engine.dialect,
                dialect=self._dialect,
                many=many,
                returning=returning,
                column_types=column_types,
            )

    def _alone(self, prepared_later: Callable[[], Prepared]) -> _Result:
        with self._borrowed() as connection, self.mapping():
            # After connecting: the server's version decides which statements have RETURNING.
            prepared = prepared_later()
            if not prepared.writes:
                connection.info[READS] = True
            with connection.begin() as transaction:
                result = self._run(connection, prepared)
                try:
                    transaction.commit()
                except exc.DBAPIError as error:
                    failed = self.mapped(error)
                    if prepared.writes and isinstance(failed, SqlConnectionLostError):
                        text = f"lost before the answer to the commit: {failed}"
                        raise SqlUnknownOutcomeError(text) from error
                    raise failed from error
            return result

    def _inside(self, levels: Levels, connection: sqlalchemy.Connection, prepared: Prepared) -> _Result:
        self.check(levels)
        if levels.streams and self._dialect.drains_streams:
            raise SqlStatementError(
                "a stream is open in this transaction, and its rows come over the same connection; "
                "read it to its end, or close it"
            )
        try:
            return self._run(connection, prepared)
        except SqlError as error:
            levels.failed = error
            raise

    def _run(self, connection: sqlalchemy.Connection, prepared: Prepared) -> _Result:
        if prepared.values == []:
            return [], 0, None
        with self.mapping():
            result = connection.execute(
                prepared.statement, prepared.values, execution_options={"preserve_rowcount": True}
            )
            if not result.returns_rows:
                check_columns((), prepared.column_names)
                one = prepared.inserts and not isinstance(prepared.values, list)
                affected_rows = max(0, result.rowcount) if prepared.writes else 0
                return [], affected_rows, generated_key(result) if one else None
            try:
                names = check_columns(result.keys(), prepared.column_names)
                data = [dict(zip(names, row, strict=True)) for row in result]
            finally:
                result.close()
            made = next(iter(data[-1].values()), None) if data and prepared.inserts else None
            return data, len(data) if prepared.writes else 0, made

    def tested(self, isolation: str | None) -> sqlalchemy.Connection:
        """Return a connection for a transaction; one that was idle is tested first."""
        connection = self.checkout(isolation)
        used_at = connection.info.get(_USED_AT)
        if self._dialect.in_process or used_at is None or time.monotonic() - used_at < _IDLE_S:
            return connection
        try:
            if self.engine.dialect.do_ping(connection.connection.dbapi_connection):  # type: ignore[arg-type]
                return connection
        except Exception as error:
            self.last_error = self.mapped(error)
        connection.invalidate()
        self.give_back(connection)
        self.engine.dispose()
        return self.checkout(isolation)

    @contextmanager
    def _borrowed(self) -> Iterator[sqlalchemy.Connection]:
        connection = self.checkout()
        try:
            yield connection
        finally:
            self.give_back(connection)

    def _isolation(self, wanted: str | None) -> str | None:
        if wanted is None:
            return None
        name = wanted.upper().replace("_", " ")
        known = sorted(
            set(self.engine.dialect.get_isolation_level_values(None)) - {"AUTOCOMMIT"}  # type: ignore[arg-type]
        )
        if name not in known:
            reason = f"{self.database.kind} has no {wanted!r}; it has {', '.join(known)}"
            raise SqlOptionError("isolation", reason, known=known)
        return name


def waits(retries: int) -> Iterator[float]:
    """Yield the seconds to wait before each retry."""
    for attempt in range(max(0, retries)):
        yield min(_FIRST_WAIT_S * 2**attempt, _MAX_WAIT_S)
