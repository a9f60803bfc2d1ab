"""``AsyncSqlBackend``: a database for tasks of an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self, TypeVar

from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.sql.base import Executable
from sqlalchemy.util import await_only, greenlet_spawn

from rambla_py._internal.tls import TlsTable
from rambla_py.sql.alchemy import listen
from rambla_py.sql.database import checked_database
from rambla_py.sql.errors import SqlError, SqlOptionError, SqlStatementError
from rambla_py.sql.executor import Executor, waits
from rambla_py.sql.parameters import Parameters
from rambla_py.sql.result import QueryResult
from rambla_py.sql.stream import RowStream
from rambla_py.sql.transactions import Levels, Transaction
from rambla_py.sql.types import Converter, TypeMap

__all__ = ["AsyncRowStream", "AsyncSqlBackend", "AsyncTransaction"]

_T = TypeVar("_T")


class AsyncSqlBackend:
    """``SqlBackend`` for asyncio: the same arguments, methods and errors, to be awaited, in one event loop.

    Drivers: psycopg, aiosqlite, asyncmy. A transaction belongs to the task that began it. A statement of
    another task in its context is refused while it is open, since it would not be part of it:
    ``asyncio.wait_for`` makes such a task before Python 3.12, ``asyncio.timeout`` does not.

    >>> async def main():
    ...     async with AsyncSqlBackend("sqlite://") as db:
    ...         await db.execute("create table t (n integer)")
    ...         async with db.transaction():
    ...             await db.execute_many("insert into t values (?)", [[1], [2]])
    ...         async with db.stream("select n from t") as rows:
    ...             return [row["n"] async for row in rows]
    >>> asyncio.run(main())
    [1, 2]
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
        parts = {
            "host": host,
            "port": port,
            "database": database,
            "username": username,
            "password": password,
            "charset": charset,
        }
        self.database = checked_database(
            url,
            parts,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            tls=tls,
            pool_size=pool_size,
            for_asyncio=True,
        )
        try:
            engine = self.database.async_engine(
                poolclass=AsyncAdaptedQueuePool,
                pool_size=self.database.pool_size(pool_size),
                max_overflow=0,
                pool_timeout=pool_timeout_s,
            ).sync_engine
        except (ValueError, ImportError) as error:
            raise SqlOptionError("url", str(error)) from error
        listen(engine, self.database, sleep=_sleep)
        self._executor = Executor(
            self.database,
            engine,
            retries=retries,
            pool_timeout_s=pool_timeout_s,
            converters=converters,
            sleep=_sleep,
        )
        self._opened: ContextVar[tuple[Any, Levels] | None] = ContextVar("rambla_sql", default=None)

    def __repr__(self) -> str:
        return f"<AsyncSqlBackend {self.database.where}{', closed' if self._executor.closed else ''}>"

    @property
    def types(self) -> TypeMap:
        """The types of this database."""
        return self._executor.types

    @property
    def last_error(self) -> SqlError | None:
        """The error of the last failed ``ping`` or attempt, or None."""
        return self._executor.last_error

    # -- connections --------------------------------------------------------------------------------

    async def connect(self) -> Self:
        """Open a connection, as a check; see ``SqlBackend.connect``."""
        await greenlet_spawn(self._executor.connect)
        return self

    async def disconnect(self) -> None:
        """Close all connections that are not in use; those close when their transaction ends."""
        await greenlet_spawn(self._executor.disconnect)

    async def ping(self, *, reconnect: bool = True) -> bool:
        """Return whether the server answers; see ``SqlBackend.ping``."""
        return await greenlet_spawn(self._executor.ping, reconnect=reconnect)

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.disconnect()

    # -- statements ---------------------------------------------------------------------------------

    async def execute(
        self,
        sql: str | Executable,
        params: Parameters = None,
        *,
        returning: Sequence[str] = (),
        column_types: Mapping[str, Any] | None = None,
    ) -> QueryResult:
        """Run a statement in this task's transaction, or in one of its own; see ``SqlBackend.execute``."""
        return await greenlet_spawn(
            self._executor.execute,
            self._levels(),
            sql,
            params,
            returning=returning,
            column_types=column_types,
        )

    async def execute_many(
        self,
        sql: str | Executable,
        rows: Iterable[Mapping[str, Any] | Sequence[Any]],
        *,
        column_types: Mapping[str, Any] | None = None,
    ) -> QueryResult:
        """Run a statement once for each row, all in one transaction; see ``SqlBackend.execute_many``."""
        return await greenlet_spawn(
            self._executor.execute, self._levels(), sql, rows, many=True, column_types=column_types
        )

    def stream(
        self,
        sql: str | Executable,
        params: Parameters = None,
        *,
        column_types: Mapping[str, Any] | None = None,
        batch_size: int = 1_000,
    ) -> AsyncRowStream:
        """Return the rows of a query, for ``async with`` and ``async for``; see ``SqlBackend.stream``."""
        levels = self._levels()
        return AsyncRowStream(
            lambda: RowStream(self._executor, levels, sql, params, column_types, batch_size)
        )

    # -- transactions -------------------------------------------------------------------------------

    def transaction(self, *, isolation: str | None = None) -> AsyncTransaction:
        """Return a transaction for ``async with``; inside another one of its task it is a savepoint."""
        return AsyncTransaction(self._executor.transaction(self._levels(), isolation))

    async def begin(self, *, isolation: str | None = None) -> AsyncTransaction:
        """Begin a transaction of this task, or a savepoint in it."""
        return await self.transaction(isolation=isolation).begin()

    async def commit(self) -> None:
        """Commit the transaction or savepoint that this task began last."""
        await greenlet_spawn(self._levels().innermost.commit)

    async def rollback(self) -> None:
        """Roll back the transaction or savepoint that this task began last."""
        await greenlet_spawn(self._levels().innermost.rollback)

    async def run(
        self,
        work: Callable[[AsyncSqlBackend], Awaitable[_T]],
        *,
        isolation: str | None = None,
        retries: int | None = None,
    ) -> _T:
        """Return what ``await work(self)`` returns in a transaction; see ``SqlBackend.run``."""
        left = self._executor.retries if retries is None else retries
        if self._levels().connection is None:
            for wait_s in waits(left):
                try:
                    return await self._once(work, isolation)
                except SqlError as error:
                    if not self._executor.may_retry(error):
                        raise
                await asyncio.sleep(wait_s)
        return await self._once(work, isolation)

    # -- inside -------------------------------------------------------------------------------------

    async def _once(self, work: Callable[[AsyncSqlBackend], Awaitable[_T]], isolation: str | None) -> _T:
        async with self.transaction(isolation=isolation):
            return await work(self)

    def _levels(self) -> Levels:
        """Return what this task has open; refuse a task that inherited an open transaction."""
        task, opened = asyncio.current_task(), self._opened.get()
        if opened is not None and opened[0] is task:
            return opened[1]
        if opened is not None and opened[1].open:
            raise SqlStatementError(
                "a transaction of another task is open in this context; await the statement in that task "
                "(asyncio.timeout() instead of asyncio.wait_for()), or start this task outside of it"
            )
        levels = Levels()
        self._opened.set((task, levels))
        return levels


class AsyncTransaction:
    """A transaction, or a savepoint; ``async with`` commits it, or rolls it back on an exception."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    def __repr__(self) -> str:
        return f"<AsyncTransaction {'open' if self.active else 'ended'}>"

    @property
    def active(self) -> bool:
        """Whether the transaction is open: begun, and neither committed nor rolled back."""
        return self._transaction.active

    async def begin(self) -> Self:
        """Begin the transaction, or a savepoint if this task has one open."""
        await greenlet_spawn(self._transaction.begin)
        return self

    async def commit(self) -> None:
        """Commit; see ``Transaction.commit``."""
        await greenlet_spawn(self._transaction.commit)

    async def rollback(self) -> None:
        """Roll back; after a loss of the connection the database has done so."""
        await greenlet_spawn(self._transaction.rollback)

    async def __aenter__(self) -> Self:
        return await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await greenlet_spawn(self._transaction.__exit__, kind, error, trace)


class AsyncRowStream:
    """Rows of a query as dicts, of which one batch is in memory; for ``async for`` inside ``async with``."""

    def __init__(self, start: Callable[[], RowStream]) -> None:
        self._start = start
        self._stream: RowStream | None = None
        self._batch: list[dict[str, Any]] = []

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> dict[str, Any]:
        if not self._batch:
            stream = await self._opened()
            self._batch = (await greenlet_spawn(stream.fetch))[::-1]
        if not self._batch:
            raise StopAsyncIteration
        return self._batch.pop()

    async def __aenter__(self) -> Self:
        await self._opened()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the query; the rows that were not read are dropped."""
        self._batch = []
        if self._stream is not None:
            await greenlet_spawn(self._stream.close)

    async def _opened(self) -> RowStream:
        if self._stream is None:
            self._stream = await greenlet_spawn(self._start)
        return self._stream


def _sleep(seconds: float) -> None:
    """Wait in the event loop, from code that SQLAlchemy runs in a greenlet."""
    await_only(asyncio.sleep(seconds))
