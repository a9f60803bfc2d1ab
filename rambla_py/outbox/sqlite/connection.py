"""The SQLite file of a journal: its connection, used by one thread at a time."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from rambla_py._internal.fork_lock import fork_rlock
from rambla_py._internal.private_files import make_private_file, make_private_folder, warn_if_readable
from rambla_py._internal.sqlite_lock import WriteLock
from rambla_py.outbox.errors import OutboxBusyError, OutboxError, OutboxFullError
from rambla_py.outbox.reentry import refuse_reentry
from rambla_py.outbox.sqlite.errors import is_io_error, journal_error
from rambla_py.outbox.sqlite.files import Reserve, check_place, has_room
from rambla_py.outbox.sqlite.tables import are_missing, migrate

__all__ = ["JournalFile", "file_errors"]

_LOG_LIMIT: Final = 64 * 1024 * 1024
_PAGES_BETWEEN_CHECKPOINTS: Final = 256


class JournalFile:
    """The connection to the file of a journal, in WAL mode and synced at each commit.

    It is opened when it is needed, and the tables are made or migrated then. A fork closes it in the parent
    before, and both sides open one of their own. Errors of SQLite are raised as ``OutboxError``.
    """

    def __init__(
        self, path: Path, *, reserve: Reserve, busy_timeout_s: float = 10.0, allow_network: bool = False
    ) -> None:
        self.path, self.name = path, str(path)
        self._place = os.path.realpath(path)
        self._reserve, self._busy_timeout_s, self._allow_network = reserve, busy_timeout_s, allow_network
        self._targets: dict[str, int] = {}
        self._write_lock: WriteLock | None = None
        self._in_use = False
        # Not even an idle connection may cross a fork: SQLite assumes locks that the child does not have.
        self._lock = fork_rlock(self.disconnect)

    def check(self) -> None:
        """Open it if it is not."""
        with self.using():
            pass

    @contextmanager
    def using(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread at a time, to read; after a fork a new one."""
        with self._lock:
            self._refuse_use()
            try:
                self._in_use = True
                lock = self._opened()
                lock.before_reading()
                yield lock.connection
            except sqlite3.Error as error:
                raise self._mapped(error) from error
            finally:
                self._in_use = False

    def _refuse_use(self) -> None:
        """Raise ``OutboxBusyError`` if this thread is using the connection already."""
        if self._in_use:
            raise OutboxBusyError(self.name, "this thread was interrupted while it was using it")

    def _opened(self) -> WriteLock:
        if self._write_lock is None:
            with file_errors(self.name):
                self._write_lock = self._connect()
        return self._write_lock

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection in a transaction that has the write lock.

        Raises ``OutboxBusyError`` on a thread that was interrupted while it was writing to the same file.
        """
        with self._lock:
            self._refuse_use()
            try:
                self._in_use = True
                lock = self._opened()
                with refuse_reentry(self.name, self._place):
                    connection, committing = lock.connection, False
                    if connection.in_transaction:  # an exception from a signal handler came too early below
                        connection.execute("ROLLBACK")
                    lock.begin_writing()
                    try:
                        yield connection
                        committing = True
                        connection.execute("COMMIT")
                    except BaseException as error:
                        self._undo(connection)
                        if isinstance(error, sqlite3.Error):
                            raise self._mapped(error, committing=committing) from error
                        raise
            except sqlite3.Error as error:
                raise self._mapped(error) from error
            finally:
                self._in_use = False

    def _undo(self, connection: sqlite3.Connection) -> None:
        self._targets.clear()  # those of this transaction are gone
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")

    def _mapped(self, error: sqlite3.Error, *, committing: bool = False) -> OutboxError:
        mapped = journal_error(self.name, error, committing=committing)
        # Of all reasons, SQLite tells only ENOSPC of a write from others.
        if is_io_error(error) and not has_room(self.path):
            return OutboxFullError(
                self.name, f"no room on the disk ({mapped.reason})", applied=mapped.applied
            )
        return mapped

    def _connect(self) -> WriteLock:
        check_place(self.path, allow_network=self._allow_network)
        make_private_folder(self.path.parent)
        make_private_file(self.path)  # SQLite gives its mode to the -wal and -shm files
        warn_if_readable(self.path)
        connection = sqlite3.connect(
            self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        try:
            lock = self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        self._reserve.make()
        return lock

    def _set_up(self, connection: sqlite3.Connection) -> WriteLock:
        _use_wal(connection, self._busy_timeout_s)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_PAGES_BETWEEN_CHECKPOINTS}")
        connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
        lock = WriteLock(connection)
        if are_missing(connection, self.name):  # else a reader need not wait for writers
            self._make_tables(lock)
        return lock

    def _make_tables(self, lock: WriteLock) -> None:
        with refuse_reentry(self.name, self._place):
            lock.begin_writing()
            try:
                migrate(lock.connection, self.name)
                lock.connection.execute("COMMIT")
            except BaseException:
                if lock.connection.in_transaction:
                    lock.connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection under the lock; the next use opens another."""
        with self._lock:
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection; the caller has the lock."""
        lock, self._write_lock = self._write_lock, None
        self._targets.clear()
        if lock is not None:
            lock.connection.close()

    def target(self, connection: sqlite3.Connection, name: str) -> int:
        """Return the number of a target, in the transaction of the caller."""
        number = self._targets.get(name)
        if number is None:
            connection.execute("INSERT OR IGNORE INTO rambla_target (name) VALUES (?)", (name,))
            (number,) = connection.execute(
                "SELECT number FROM rambla_target WHERE name = ?", (name,)
            ).fetchone()
            self._targets[name] = number
        assert number is not None
        return number


@contextmanager
def file_errors(name: str) -> Iterator[None]:
    """Raise errors of the operating system as ``OutboxError``.

    Only where files are opened: a signal handler may raise an ``OSError`` of its own anywhere.
    """
    try:
        yield
    except OSError as error:
        raise OutboxError(name, str(error)) from error


def _use_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """Switch to WAL mode; SQLite does not apply its busy timeout to this."""
    end = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not (error.sqlite_errorname or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return
