"""This module keeps records in a SQLite database that processes may share."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from rambla_py.state.errors import (
    StateAccessError,
    StateCorruptError,
    StateError,
    StateQuotaError,
    StateTooLargeError,
    StateUnavailableError,
)
from rambla_py.state.forks import ForkLock
from rambla_py.state.record import Row
from rambla_py.state.rows import RowStore
from rambla_py.turn import begin_writing

__all__ = ["SqliteStore"]

_TABLE = """
CREATE TABLE IF NOT EXISTS rambla_state (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    expires_at REAL
) WITHOUT ROWID
"""
_INDEX = """
CREATE INDEX IF NOT EXISTS rambla_state_expires_at ON rambla_state (expires_at) WHERE expires_at IS NOT NULL
"""
_COLUMNS = "key, value, created_at, updated_at, expires_at"
_UPSERT = f"""
INSERT INTO rambla_state ({_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (key) DO UPDATE SET
    value = excluded.value,
    created_at = CASE WHEN ?6 OR expires_at <= excluded.updated_at
                 THEN excluded.created_at ELSE created_at END,
    updated_at = excluded.updated_at,
    expires_at = excluded.expires_at
RETURNING created_at
"""
_REFUSED = {"SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH"}
_DAMAGED = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}
_BUSY = {"SQLITE_BUSY", "SQLITE_LOCKED"}
_POLL_S = 0.01


class SqliteStore(RowStore):
    """Keeps records in the SQLite file ``path``, made where it is missing: the store to begin with.

    Any number of threads and processes may share the file, on one machine: it is in WAL mode, who reads does
    not wait for other processes, and who writes waits for its turn for ``busy_timeout_s``. The threads that
    share a store take turns: give those that must never wait for a writer one of their own. ``set_many`` is
    one transaction. With
    ``synchronous = "full"`` the disk has a record before ``set`` returns; with ``"normal"`` a loss of power
    may take the last ones back (the death of a process never does), and writing is much quicker.
    ``max_bytes`` bounds the file, ``max_value_bytes`` a record (a gigabyte, SQLite's own limit, by default).

    >>> import tempfile
    >>> with SqliteStore(tempfile.mkdtemp() + "/state.db") as store:
    ...     record = store.set("cart-7", {"lines": 2})
    ...     store.get("cart-7").value
    {'lines': 2}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout_s: float = 10.0,
        synchronous: Literal["full", "normal"] = "full",
        max_bytes: int | None = None,
        max_value_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock=clock)
        self.path = Path(path).expanduser().absolute()
        self._busy_timeout_s, self._synchronous = busy_timeout_s, synchronous
        self._max_bytes, self._max_value_bytes = max_bytes, max_value_bytes
        self._connection: sqlite3.Connection | None = None
        # Not even an idle connection may cross a fork: SQLite then takes its locks for held, which the child
        # does not have, and the parent's close removes the log that the child is still writing to.
        self._lock = ForkLock(self._disconnect)

    def _name(self) -> str:
        return f"SqliteStore({str(self.path)!r})"

    def _open(self) -> None:
        with self._lock:
            self._connection = self._connected()

    def _shut(self) -> None:
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _read(self, key: str) -> Row | None:
        with self._using() as connection:
            found = connection.execute(
                f"SELECT {_COLUMNS} FROM rambla_state WHERE key = ?", (key,)
            ).fetchone()
        return None if found is None else _row(found)

    def _write(self, rows: Sequence[Row], *, exact: bool) -> Sequence[Row]:
        with self._writing() as connection:
            return [row._replace(created_at=self._upsert(connection, row, exact)) for row in rows]

    def _upsert(self, connection: sqlite3.Connection, row: Row, exact: bool) -> float:
        try:
            values = (row.key, row.value.decode(), *row[2:], exact)
            created_at: float = connection.execute(_UPSERT, values).fetchone()[0]
        except (sqlite3.DataError, OverflowError) as error:
            limit = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
            raise StateTooLargeError(row.key, len(row.value), limit, "SQLite's limit of a row") from error
        return created_at

    def _remove(self, key: str, now: float) -> bool:
        # Not by RETURNING: in a DELETE, SQLite 3.40 gives NULL for 'expires_at IS NULL OR expires_at > ?'.
        live = "SELECT 1 FROM rambla_state WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)"
        with self._writing() as connection:
            found = connection.execute(live, (key, now)).fetchone()
            connection.execute("DELETE FROM rambla_state WHERE key = ?", (key,))
        return found is not None

    def _read_all(self) -> Iterable[Row]:
        with self._using() as connection:
            found = connection.execute(f"SELECT {_COLUMNS} FROM rambla_state").fetchall()
        return map(_row, found)

    def _wipe(self) -> None:
        with self._writing() as connection:
            connection.execute("DELETE FROM rambla_state")

    def _sweep(self, now: float) -> int:
        with self._writing() as connection:
            return connection.execute("DELETE FROM rambla_state WHERE expires_at <= ?", (now,)).rowcount

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Give the connection, for one thread at a time; a new one after a fork."""
        with self._lock, self._mapped():
            self._check_ready()  # it may have been closed while we waited for the lock
            if self._connection is None:
                self._connection = self._connected()
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection inside a transaction, which begins as a writer's: it waits for its turn."""
        with self._using() as connection:
            begin_writing(connection)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled it back already
                    connection.execute("ROLLBACK")
                raise

    def _connected(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            with self._mapped():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                connection = sqlite3.connect(
                    self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
                )
                self._use_wal(connection)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                self._bound(connection)
                connection.execute(_TABLE)
                connection.execute(_INDEX)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Change to WAL mode; SQLite does not wait its busy timeout for this one."""
        end = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY or time.monotonic() > end:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def _bound(self, connection: sqlite3.Connection) -> None:
        if self._max_value_bytes is not None:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._max_value_bytes)
        if self._max_bytes is not None:
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // page_size)}")

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._ours(error) from error
        except OSError as error:
            raise StateAccessError(self._name(), str(error)) from error

    def _ours(self, error: sqlite3.Error) -> StateError:
        """Return our error for one of SQLite's; the only place that knows which is which."""
        code, reason = _code(error), str(error)
        if code == "SQLITE_FULL":
            return StateQuotaError(self._name(), reason)
        if code in _BUSY:
            waited = f"another process is writing for over busy_timeout_s = {self._busy_timeout_s:g}"
            return StateUnavailableError(self._name(), f"{reason}: {waited}")
        if code in _DAMAGED:
            return StateCorruptError(str(self.path), reason)
        if code in _REFUSED:
            return StateAccessError(self._name(), reason)
        return StateUnavailableError(self._name(), reason, applied="unknown")


def _row(found: tuple[str, str, float, float, float | None]) -> Row:
    return Row(found[0], found[1].encode(), *found[2:])


def _code(error: sqlite3.Error) -> str:
    """Return the primary code: ``SQLITE_BUSY_SNAPSHOT`` is a ``SQLITE_BUSY``."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])
