"""Cursors of psycopg that track their statements."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar, Final, Self

from psycopg import AsyncCopy, AsyncCursor, Copy, Cursor
from psycopg.abc import Query
from psycopg.rows import Row
from psycopg.sql import Composable

from rambla_py.analytics.instrument.calls import Queries, QueryTracker
from rambla_py.analytics.privacy import sql_masking as _sql_masking  # noqa: F401  # now, not in a request

__all__ = ["AnalyticsCursor", "AsyncAnalyticsCursor", "async_psycopg_cursor", "psycopg_cursor"]

_DIALECT: Final = "postgresql"


def psycopg_cursor(tracker: QueryTracker) -> type[AnalyticsCursor[Any]]:
    """Return a class of cursors that track each statement as a Database Query.

    Its text, duration and success, never its parameters; literals leave the text before it is stored. To
    be used as ``cursor_factory`` of a connection or a pool; ``uninstrument()`` of the class ends it.
    Server-side cursors, which have names, are not tracked. Statements in workers are left alone.

    >>> import psycopg
    >>> cursor_factory = psycopg_cursor(tracker)                               # doctest: +SKIP
    >>> connection = psycopg.connect("dbname=shop", cursor_factory=cursor_factory)  # doctest: +SKIP
    """
    return type("AnalyticsCursor", (AnalyticsCursor,), {"_queries": Queries(tracker, _DIALECT)})


def async_psycopg_cursor(tracker: QueryTracker) -> type[AsyncAnalyticsCursor[Any]]:
    """Return a class of cursors for ``AsyncConnection``; else as `psycopg_cursor`."""
    return type("AsyncAnalyticsCursor", (AsyncAnalyticsCursor,), {"_queries": Queries(tracker, _DIALECT)})


class AnalyticsCursor(Cursor[Row]):
    """A cursor that tracks its statements; `psycopg_cursor` makes a class of it for a tracker."""

    _queries: ClassVar[Queries]

    @classmethod
    def uninstrument(cls) -> None:
        """Stop tracking; cursors of this class stay usable."""
        cls._queries.is_on = False

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Execute a query, and track it."""
        with self._queries.measured(_text(query, self)):
            return super().execute(query, params, **options)

    def executemany(self, query: Query, params_seq: Any, **options: Any) -> None:
        """Execute a query for each row of parameters, and track it once."""
        with self._queries.measured(_text(query, self)):
            super().executemany(query, params_seq, **options)

    def stream(self, query: Any, params: Any = None, **options: Any) -> Iterator[Row]:
        """Yield the rows of a query, which is tracked when they end."""
        with self._queries.measured(_text(query, self)):
            yield from super().stream(query, params, **options)

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **options: Any) -> Iterator[Copy]:
        """Start a COPY, which is tracked when it ends."""
        with (
            self._queries.measured(_text(statement, self)),
            super().copy(statement, params, **options) as copy,
        ):
            yield copy


class AsyncAnalyticsCursor(AsyncCursor[Row]):
    """A cursor that tracks its statements; `async_psycopg_cursor` makes a class of it for a tracker."""

    _queries: ClassVar[Queries]

    @classmethod
    def uninstrument(cls) -> None:
        """Stop tracking; cursors of this class stay usable."""
        cls._queries.is_on = False

    async def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        """Execute a query, and track it."""
        with self._queries.measured(_text(query, self)):
            return await super().execute(query, params, **options)

    async def executemany(self, query: Query, params_seq: Any, **options: Any) -> None:
        """Execute a query for each row of parameters, and track it once."""
        with self._queries.measured(_text(query, self)):
            await super().executemany(query, params_seq, **options)

    async def stream(self, query: Any, params: Any = None, **options: Any) -> AsyncIterator[Row]:
        """Yield the rows of a query, which is tracked when they end."""
        with self._queries.measured(_text(query, self)):
            async for row in super().stream(query, params, **options):
                yield row

    @asynccontextmanager
    async def copy(self, statement: Any, params: Any = None, **options: Any) -> AsyncIterator[AsyncCopy]:
        """Start a COPY, which is tracked when it ends."""
        with self._queries.measured(_text(statement, self)):
            async with super().copy(statement, params, **options) as copy:
                yield copy


def _text(query: Any, cursor: Cursor[Any] | AsyncCursor[Any]) -> str:
    """Return a query's text; empty for one that psycopg itself would refuse, or that has none yet."""
    try:
        if isinstance(query, Composable):
            return query.as_string(cursor.connection)
        return query.decode() if isinstance(query, bytes) else query if isinstance(query, str) else ""
    except Exception:
        return ""
