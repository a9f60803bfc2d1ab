"""Rows of a query in batches, from a cursor in the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rambla_py.sql.alchemy import READS
from rambla_py.sql.errors import SqlError, SqlOptionError
from rambla_py.sql.result import check_columns

if TYPE_CHECKING:
    import sqlalchemy

    from rambla_py.sql.executor import Executor
    from rambla_py.sql.statement import Prepared
    from rambla_py.sql.transactions import Levels

__all__ = ["RowStream"]


class RowStream(Iterator[dict[str, Any]]):
    """Rows of a query as dicts, of which one batch is in memory; an iterator, and a context manager.

    Outside a transaction it holds a connection of the pool until the last row is read, or ``close``.
    """

    def __init__(
        self,
        executor: Executor,
        levels: Levels,
        sql: Any,
        params: Any,
        column_types: Mapping[str, Any] | None,
        batch_size: int,
    ) -> None:
        self._connection: sqlalchemy.Connection | None = None
        self._transaction: Any = None
        if batch_size < 1:
            raise SqlOptionError("batch_size", f"must be at least 1; got {batch_size}")
        self._executor, self._levels, self._batch_size = executor, levels, batch_size
        self._batch: Iterator[dict[str, Any]] = iter(())
        self._result: Any = None
        self._names: list[str] = []
        if levels.connection is not None:
            executor.check(levels)
            self._start(levels.connection, executor.query(sql, params, column_types))
        else:
            executor.again(lambda: self._open(sql, params, column_types))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> dict[str, Any]:
        for row in self._batch:
            return row
        rows = self.fetch()
        if not rows:
            raise StopIteration
        self._batch = iter(rows)
        return next(self._batch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Without a reference no caller can close it, and the connection would never return to the pool.
        if self._connection is not None:
            with suppress(Exception):
                self.close()

    def fetch(self) -> list[dict[str, Any]]:
        """Return the next batch; empty at the end. After the last row the connection is returned."""
        if self._result is None:
            return []
        try:
            with self._executor.mapping():
                rows = self._result.fetchmany(self._batch_size)
                made = [dict(zip(self._names, row, strict=True)) for row in rows]
        except SqlError as error:
            if self._connection is None:
                self._levels.failed = error
            self._end(read=False)
            raise
        if len(made) < self._batch_size:
            self._end(read=True)
        return made

    def close(self) -> None:
        """End the query; the rows that were not read are dropped."""
        self._batch = iter(())
        self._end(read=False)

    def _open(self, sql: Any, params: Any, column_types: Mapping[str, Any] | None) -> None:
        executor = self._executor
        self._connection = executor.checkout()
        try:
            with executor.mapping():
                prepared = executor.query(sql, params, column_types)
                self._connection.info[READS] = True
                self._transaction = self._connection.begin()
                self._start(self._connection, prepared)
        except BaseException:
            self._end(read=False)
            raise

    def _start(self, connection: sqlalchemy.Connection, prepared: Prepared) -> None:
        with self._executor.mapping():
            self._result = connection.execute(
                prepared.statement, prepared.values, execution_options={"yield_per": self._batch_size}
            )
            self._names = check_columns(self._result.keys(), prepared.column_names)
        if self._connection is None:
            self._levels.streams.add(self)

    def _end(self, *, read: bool) -> None:
        """Close the cursor and return the connection; ``read`` is whether all rows were read."""
        result, connection, transaction = self._result, self._connection, self._transaction
        self._result = self._connection = self._transaction = None
        self._levels.streams.discard(self)
        try:
            with self._executor.mapping():
                if (
                    not read
                    and result is not None
                    and connection is not None
                    and self._executor.database.dialect.drains_streams
                ):
                    # Closing the cursor would read all the rows that are left.
                    self._executor.database.dialect.abandon(result.cursor)
                    connection.invalidate()
                elif result is not None:
                    result.close()
                if transaction is not None:
                    transaction.rollback()
        finally:
            if connection is not None:
                self._executor.give_back(connection)
