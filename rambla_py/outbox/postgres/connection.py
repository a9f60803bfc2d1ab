"""The connection of a PostgreSQL journal: bounded waits, errors as ours, open again after a loss."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg

from rambla_py._internal.fork_lock import fork_rlock
from rambla_py.errors import RamblaError
from rambla_py.outbox.errors import OutboxBusyError, OutboxError
from rambla_py.outbox.reentry import refuse_reentry
from rambla_py.outbox.transactional.driver_errors import outbox_error
from rambla_py.sql.dialects.postgresql_connection import PostgresConnection

__all__ = ["JournalConnection", "connect", "fetch"]

_CONNECT_TIMEOUT_S: Final = 5


def connect(url: str, read_timeout_s: float, name: str) -> PostgresConnection:
    """Open a connection that commits each statement by itself; raises ``psycopg.Error``."""
    connection = PostgresConnection.connect(
        url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S, fallback_application_name=name
    )
    connection.read_timeout_s = read_timeout_s
    connection.prepare_threshold = None  # a pooler may run the next statement in another session
    return connection


class JournalConnection:
    """One connection, used by one thread at a time; it is made when it is needed, and again after a loss.

    A fork closes it in the parent, and both sides open one of their own.
    """

    def __init__(self, url: str, name: str, *, read_timeout_s: float) -> None:
        self._url, self._name, self._read_timeout_s = url, name, read_timeout_s
        self._connection: PostgresConnection | None = None
        self._pid = os.getpid()
        # Reentrant: a signal handler must not wait for its own thread.
        self._lock = fork_rlock(self.disconnect)
        self._in_use = False

    @property
    def was_forked(self) -> bool:
        """Whether this process is a fork of the one that made it."""
        return self._pid != os.getpid()

    @contextmanager
    def using(self) -> Iterator[PostgresConnection]:
        """Give the connection; each statement is a transaction of its own."""
        with self._lock, self._used(), self._mapped_errors():
            yield self._opened()

    @contextmanager
    def writing(self) -> Iterator[PostgresConnection]:
        """Give the connection in a transaction, which is committed at the end of the block.

        Raises ``OutboxBusyError`` on a thread that was interrupted while it was writing to the same database.
        """
        with self._lock, self._used(), refuse_reentry(self._name, self._url):
            committing = False
            try:
                connection = self._opened()
                with connection.transaction():
                    yield connection
                    committing = True
            except RamblaError:
                raise
            except (psycopg.Error, OSError) as error:
                self._drop_broken()
                if committing and not _was_refused(error):
                    raise OutboxError(self._name, str(error), applied="unknown") from error
                raise outbox_error(self._name, error) from error

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Refuse a call that interrupts another one on the same thread."""
        if self._in_use:
            raise OutboxBusyError(self._name, "this thread was interrupted while it used the connection")
        self._in_use = True
        try:
            yield
        finally:
            self._in_use = False

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except (psycopg.Error, OSError) as error:
            self._drop_broken()
            raise outbox_error(self._name, error) from error

    def _opened(self) -> PostgresConnection:
        if self._connection is None:
            self._connection = connect(self._url, self._read_timeout_s, "rambla outbox")
        return self._connection

    def _drop_broken(self) -> None:
        if self._connection is not None and (self._connection.broken or self._connection.closed):
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection, if there is one; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                connection.close()

    def close(self) -> None:
        """Close the connection under the lock."""
        with self._lock:
            self.disconnect()


def _was_refused(error: BaseException) -> bool:
    """Return whether the server itself answered the commit with an error, so that nothing is applied."""
    return getattr(error, "sqlstate", None) is not None


def fetch(connection: psycopg.Connection[Any], sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """Run a statement, and return its rows."""
    cursor = connection.execute(sql.encode(), parameters)
    return cursor.fetchall() if cursor.description else []
