"""A state store in a SQLite database that processes may share."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rambla_py._internal.fork_lock import fork_lock
from rambla_py._internal.private_files import make_private_file, make_private_folder, warn_if_readable
from rambla_py._internal.sqlite_lock import begin_writing
from rambla_py.state.errors import (
    StateAccessError,
    StateCorruptError,
    StateError,
    StateQuotaError,
    StateTooLargeError,
    StateUnavailableError,
)
from rambla_py.state.record import RemoveRule, Row, WriteRule
from rambla_py.state.rows import RowStore

__all__ = ["SqliteStore"]

_TABLE = """
CREATE TABLE IF NOT EXISTS rambla_state (
    key TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    expires_at REAL,
    version TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID
"""
_INDEX = """
CREATE INDEX IF NOT EXISTS rambla_state_expires_at ON rambla_state (expires_at) WHERE expires_at IS NOT NULL
"""
_COLUMNS = "key, value, created_at, updated_at, expires_at, version"
_VERSION = "ALTER TABLE rambla_state ADD COLUMN version TEXT NOT NULL DEFAULT ''"
_UPSERT = f"""
INSERT INTO rambla_state ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET
    value = excluded.value,
    created_at = CASE WHEN ? OR expires_at <= excluded.updated_at
                 THEN excluded.created_at ELSE created_at END,
    updated_at = excluded.updated_at,
    expires_at = excluded.expires_at,
    version = excluded.version
RETURNING created_at
"""
_REFUSED = {"SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH"}
_DAMAGED = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}
_BUSY = {"SQLITE_BUSY", "SQLITE_LOCKED"}
_POLL_S = 0.01
_CHUNK = 500
# Keys compare by their UTF-8; the second bound is above every key that begins with the first.
_WITH_PREFIX = " WHERE key >= ? AND key < ?"
_ABOVE_ALL = "\U0010ffff" * 300


class SqliteStore(RowStore):
    """Keeps records in the SQLite file ``path``, which is created if missing. The default store.

    Any number of threads and processes of one machine may share the file: it is in WAL mode, so readers do
    not wait for other processes, and writers wait at most ``busy_timeout_s`` for the lock. The threads that
    share a store use it in turn: give a thread that must never wait for a writer its own store. ``set_many``
    is one transaction. With ``synchronous = "full"`` a record is on disk before ``set`` returns; ``"normal"``
    is much faster, and a power failure may undo the last records (the end of a process never does).
    ``max_bytes`` bounds the file, ``max_value_bytes`` a record (default SQLite's limit, 10^9). The file is
    created with mode 0600, missing folders with 0700.

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
        cleanup_every_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(cleanup_every_s=cleanup_every_s, clock=clock)
        self.path = Path(path).expanduser().absolute()
        self._busy_timeout_s, self._synchronous = busy_timeout_s, synchronous
        self._max_bytes, self._max_value_bytes = max_bytes, max_value_bytes
        self._connection: sqlite3.Connection | None = None
        # Not even an idle connection may cross a fork: SQLite assumes locks that the child does not have, and
        # when the parent closes, it removes the log that the child still writes to.
        self._lock = fork_lock(self._disconnect)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> SqliteStore:
        """Return the store of ``sqlite:///file``, which is relative, or ``sqlite:////file``, which is not."""
        path = url.partition("://")[2]
        if not path.startswith("/") or len(path) == 1:
            raise ValueError(
                "a sqlite url that names no file: write sqlite:///file, or sqlite:////from/the/root"
            )
        return cls(path[1:], **options)

    def _name(self) -> str:
        return f"SqliteStore({str(self.path)!r})"

    def _open(self) -> None:
        with self._lock:
            self._connection = self._connect()

    def _close(self) -> None:
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _read(self, key: str) -> Row | None:
        with self._using() as connection:
            return _stored(connection, key)

    def _read_many(self, keys: Sequence[str]) -> Iterable[Row]:
        found: list[Any] = []
        with self._using() as connection:
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                places = ", ".join("?" * len(chunk))
                query = f"SELECT {_COLUMNS} FROM rambla_state WHERE key IN ({places})"
                found += connection.execute(query, chunk)
        return map(_row, found)

    def _read_all(self, prefix: str) -> Iterable[Row]:
        query = f"SELECT {_COLUMNS} FROM rambla_state{_WITH_PREFIX}"
        with self._using() as connection:
            found = connection.execute(query, _range(prefix)).fetchall()
        return map(_row, found)

    def _write(self, rows: Sequence[Row], rule: WriteRule) -> Sequence[Row]:
        with self._writing() as connection:
            if rule.if_absent or rule.if_version is not None:
                rows = [rule(row, _stored(connection, row.key)) for row in rows]
            return [row._replace(created_at=self._upsert(connection, row, rule.exact)) for row in rows]

    def _upsert(self, connection: sqlite3.Connection, row: Row, exact: bool) -> float:
        try:
            values = (row.key, row.value.decode(), *row[2:], exact)
            created_at: float = connection.execute(_UPSERT, values).fetchone()[0]
        except (sqlite3.DataError, OverflowError) as error:
            limit = connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH)
            raise StateTooLargeError(row.key, len(row.value), limit, "SQLite's limit of a row") from error
        return created_at

    def _remove(self, key: str, rule: RemoveRule) -> bool:
        with self._writing() as connection:
            found = rule(_stored(connection, key))
            connection.execute("DELETE FROM rambla_state WHERE key = ?", (key,))
        return found

    def _remove_all(self, prefix: str) -> None:
        with self._writing() as connection:
            connection.execute(f"DELETE FROM rambla_state{_WITH_PREFIX}", _range(prefix))

    def _remove_expired(self, now: float, prefix: str) -> int:
        query = f"DELETE FROM rambla_state{_WITH_PREFIX} AND expires_at <= ?"
        with self._writing() as connection:
            return connection.execute(query, (*_range(prefix), now)).rowcount

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Give the connection to one thread at a time; after a fork a new one."""
        with self._lock, self._mapped_errors():
            self._check_ready()  # another thread may have closed it
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Give the connection in a transaction that has the write lock."""
        with self._using() as connection:
            begin_writing(connection)
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has rolled it back already
                    connection.execute("ROLLBACK")
                raise

    def _connect(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = None
        try:
            with self._mapped_errors():
                make_private_folder(self.path.parent)
                make_private_file(self.path)  # SQLite gives its mode to the -wal and -shm files
                warn_if_readable(self.path)
                connection = sqlite3.connect(
                    self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
                )
                self._use_wal(connection)
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                self._set_limits(connection)
                _create_table(connection)
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        return connection

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to WAL mode; SQLite does not apply its busy timeout to this."""
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

    def _set_limits(self, connection: sqlite3.Connection) -> None:
        if self._max_value_bytes is not None:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._max_value_bytes)
        if self._max_bytes is not None:
            page_size = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {max(1, self._max_bytes // page_size)}")

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._error_for(error) from error
        except OSError as error:
            raise StateAccessError(self._name(), str(error)) from error

    def _error_for(self, error: sqlite3.Error) -> StateError:
        """Return the error for one of SQLite."""
        code, reason = _code(error), str(error)
        if code == "SQLITE_FULL":
            return StateQuotaError(self._name(), reason)
        if code in _BUSY:
            waited = f"another process has been writing for over busy_timeout_s = {self._busy_timeout_s:g}"
            return StateUnavailableError(self._name(), f"{reason}: {waited}")
        if code in _DAMAGED:
            return StateCorruptError(str(self.path), reason)
        if code in _REFUSED:
            return StateAccessError(self._name(), reason)
        return StateUnavailableError(self._name(), reason, applied="unknown")


def _create_table(connection: sqlite3.Connection) -> None:
    columns = connection.execute("SELECT name FROM pragma_table_info('rambla_state')").fetchall()
    if ("version",) in columns:
        return
    begin_writing(connection)
    try:
        connection.execute(_TABLE)
        connection.execute(_INDEX)
        columns = connection.execute("SELECT name FROM pragma_table_info('rambla_state')").fetchall()
        if ("version",) not in columns:  # 0.1 had none
            connection.execute(_VERSION)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _stored(connection: sqlite3.Connection, key: str) -> Row | None:
    found = connection.execute(f"SELECT {_COLUMNS} FROM rambla_state WHERE key = ?", (key,)).fetchone()
    return None if found is None else _row(found)


def _range(prefix: str) -> tuple[str, str]:
    """Return the parameters of ``_WITH_PREFIX``."""
    return prefix, prefix + _ABOVE_ALL


def _row(found: tuple[str, str, float, float, float | None, str]) -> Row:
    return Row(found[0], found[1].encode(), *found[2:])


def _code(error: sqlite3.Error) -> str:
    """Return the primary code: ``SQLITE_BUSY_SNAPSHOT`` is a ``SQLITE_BUSY``."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])
