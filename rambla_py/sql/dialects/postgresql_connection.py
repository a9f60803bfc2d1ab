"""Connections of psycopg that bound the wait for the server."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.waiting import Ready

__all__ = ["AsyncPostgresConnection", "PostgresConnection", "PostgresTimeoutError"]

CANCEL_S = 2.0
"""Time-out of the request to cancel a statement, and of the server's answer to it."""


class PostgresTimeoutError(psycopg.errors.QueryCanceled):
    """PostgreSQL did not finish a statement in time, and has cancelled it: nothing of it was applied."""


class PostgresConnection(psycopg.Connection[Any]):
    """A connection to a server that may be silent for ``read_timeout_s`` seconds, and no longer.

    libpq waits without limit for a server that keeps its connections open and does not answer. A statement
    that takes longer is cancelled: closing the connection alone would let it go on, and be applied. Raises
    ``PostgresTimeoutError`` if the server confirms that, else ``psycopg.OperationalError``.
    """

    read_timeout_s: float = math.inf

    def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run one of psycopg's generators, for as long as the server may be silent."""
        return super().wait(self._watched(gen), *args, **kwargs)

    def _watched(self, gen: Any) -> Generator[Any, Any, Any]:
        cancelled = False
        deadline = time.monotonic() + self.read_timeout_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready != Ready.NONE:
                    deadline = time.monotonic() + (CANCEL_S if cancelled else self.read_timeout_s)
                elif time.monotonic() > deadline:
                    if cancelled or not self._cancelled():
                        self.pgconn.finish()  # so that nothing waits for it again
                        raise psycopg.OperationalError(f"no answer within {self.read_timeout_s:g} s")
                    cancelled, deadline = True, time.monotonic() + CANCEL_S
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value
        except psycopg.errors.QueryCanceled as error:
            if not cancelled:
                raise
            raise PostgresTimeoutError(
                f"no answer within read_timeout_s = {self.read_timeout_s:g}; "
                "the server has cancelled the statement"
            ) from error
        finally:
            gen.close()

    def _cancelled(self) -> bool:
        """Ask the server to cancel the statement; return whether it has received that."""
        try:
            self.cancel_safe(timeout=CANCEL_S)
        except Exception:  # no route to the server, no answer, too many connections
            return False
        return True


class AsyncPostgresConnection(psycopg.AsyncConnection[Any]):
    """The connection for asyncio; a statement over ``read_timeout_s`` is cancelled and ends the connection.

    The server's answer is dropped, so that it is not known whether the statement was applied; with the
    connection its transaction ends.
    """

    read_timeout_s: float = math.inf

    async def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
        """Run one of psycopg's generators, for as long as the server may be silent."""
        try:
            return await super().wait(_bounded(gen, self.read_timeout_s), *args, **kwargs)
        except _OverdueError as error:
            # A time-out of asyncio would leave the request to psycopg, which waits for ten seconds.
            try:
                if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                    with suppress(Exception):  # no route to the server, no answer, too many connections
                        await self.cancel_safe(timeout=CANCEL_S)
            finally:
                self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {self.read_timeout_s:g} s") from error


class _OverdueError(Exception):
    """A generator has not finished in time."""


def _bounded(gen: Any, timeout_s: float) -> Generator[Any, Any, Any]:
    """Run a generator of psycopg for so long, then raise ``_OverdueError``."""
    deadline = time.monotonic() + timeout_s
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready == Ready.NONE and time.monotonic() > deadline:
                raise _OverdueError
            wanted = gen.send(ready)
    except StopIteration as end:
        return end.value
    finally:
        gen.close()
