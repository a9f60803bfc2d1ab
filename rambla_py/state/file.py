"""A state store of one file for each record, in a folder that processes may share. POSIX only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec

from rambla_py._internal.fork_lock import fork_lock
from rambla_py._internal.private_files import FILE_MODE, make_private_folder, warn_if_readable
from rambla_py.state.errors import (
    StateAccessError,
    StateCorruptError,
    StateQuotaError,
    StateUnavailableError,
)
from rambla_py.state.record import RemoveRule, Row, WriteRule
from rambla_py.state.rows import RowStore

__all__ = ["FileStore"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EISDIR}
_LOCK_NAME = ".lock"
_NEW = ".new-"
_SUFFIX = ".json"
_POLL_S = 0.005


class _File(msgspec.Struct):
    """The content of a file."""

    key: str
    created_at: float
    updated_at: float
    expires_at: float | None
    value: msgspec.Raw
    version: str = ""


class FileStore(RowStore):
    """Keeps each record as a JSON file in the folder ``path``, which is created if missing.

    Any number of threads and processes of one machine may share the folder. Writers hold ``flock`` on
    ``.lock`` in it, and wait at most ``lock_timeout_s`` for it. A record is written to a temporary file and
    moved into place, so that readers find the old record or the new one whole, also after a crash. With
    ``fsync`` it is on disk before ``set`` returns. ``set_many`` writes each record whole, but not all of them
    together. Files are created with mode 0600, folders with 0700.

    >>> import tempfile
    >>> with FileStore(tempfile.mkdtemp()) as store:
    ...     record = store.set("theme", "dark", expires_s=60)
    ...     store.get("theme").value
    'dark'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        fsync: bool = True,
        lock_timeout_s: float = 10.0,
        cleanup_every_s: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(cleanup_every_s=cleanup_every_s, clock=clock)
        self.path = Path(path).expanduser().absolute()
        self._fsync, self._lock_timeout_s = fsync, lock_timeout_s
        self._fork_lock = fork_lock()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> FileStore:
        """Return the store of ``file:///folder``, ``file://./folder`` or ``file://~/folder``."""
        folder = url.partition("://")[2]
        if not folder.startswith(("/", "./", "../", "~")):
            raise ValueError("a file url that names no folder: write file:///folder, or file://./folder")
        return cls(unquote(folder), **options)

    def _name(self) -> str:
        return f"FileStore({str(self.path)!r})"

    def _open(self) -> None:
        with self._mapped_errors():
            make_private_folder(self.path)
            warn_if_readable(self.path)
        with self._locked():
            # Writers hold the lock, so unfinished files are those of writers that died.
            for left in self.path.glob(f"{_NEW}*"):
                left.unlink(missing_ok=True)

    def _read(self, key: str) -> Row | None:
        with self._mapped_errors():
            return self._row_of(self._path_of(key))

    def _write(self, rows: Sequence[Row], rule: WriteRule) -> Sequence[Row]:
        with self._locked():
            kept = [rule(row, self._readable_row(self._path_of(row.key))) for row in rows]
            new: list[Path] = []
            try:
                new.extend(self._temporary_file(row) for row in kept)
                for path, row in zip(new, kept, strict=True):
                    path.rename(self._path_of(row.key))
            except BaseException:
                for path in new:
                    path.unlink(missing_ok=True)
                raise
            self._sync_folder()
        return kept

    def _remove(self, key: str, rule: RemoveRule) -> bool:
        with self._locked():
            path = self._path_of(key)
            row = self._readable_row(path)
            found = rule(row)
            if not path.exists():
                return False
            path.unlink()
            self._sync_folder()
        return found or row is None  # a damaged record counts as one

    def _read_all(self, prefix: str) -> Iterable[Row]:
        with self._mapped_errors():
            return [row for path in self._record_files() if (row := self._row_of(path)) is not None]

    def _remove_all(self, prefix: str) -> None:
        with self._locked():
            for path in self._record_files():
                if not prefix or ((row := self._readable_row(path)) and row.key.startswith(prefix)):
                    path.unlink(missing_ok=True)
            self._sync_folder()

    def _remove_expired(self, now: float, prefix: str) -> int:
        with self._locked():
            rows = ((path, self._readable_row(path)) for path in self._record_files())
            gone = [path for path, row in rows if row and row.expired(now) and row.key.startswith(prefix)]
            for path in gone:
                path.unlink(missing_ok=True)
            self._sync_folder()
        return len(gone)

    def _path_of(self, key: str) -> Path:
        """Return the file of a key: a readable part, and a digest that makes it unique."""
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", key)[:40]
        return self.path / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:32]}{_SUFFIX}"

    def _record_files(self) -> list[Path]:
        return [Path(entry) for entry in os.scandir(self.path) if entry.name.endswith(_SUFFIX)]

    def _row_of(self, path: Path) -> Row | None:
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            if not self.path.is_dir():
                raise
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateCorruptError(str(path), str(error)) from error
        times = (found.created_at, found.updated_at, found.expires_at)
        return Row(found.key, bytes(found.value), *times, found.version)

    def _readable_row(self, path: Path) -> Row | None:
        """Return the row of a file, or None if it is missing or damaged.

        Reading a damaged record raises; replacing or removing it does not.
        """
        try:
            return self._row_of(path)
        except StateCorruptError:
            return None

    def _temporary_file(self, row: Row) -> Path:
        """Write a row to a temporary file, and return its path."""
        times = (row.created_at, row.updated_at, row.expires_at)
        data = msgspec.json.encode(_File(row.key, *times, msgspec.Raw(row.value), row.version))
        handle, name = tempfile.mkstemp(prefix=_NEW, dir=self.path)
        try:
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                if self._fsync:
                    os.fsync(handle)
        except BaseException:
            os.unlink(name)
            raise
        return Path(name)

    def _sync_folder(self) -> None:
        if not self._fsync:
            return
        folder = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other writers out."""
        # flock belongs to the open file. A child forked now would inherit it, and keep the lock after this
        # process was killed.
        with self._mapped_errors(), self._fork_lock:
            lock = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                self._wait_for(lock)
                yield
            finally:
                os.close(lock)

    def _wait_for(self, lock: int) -> None:
        end = time.monotonic() + self._lock_timeout_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    reason = (
                        f"another process has held its lock for {self._lock_timeout_s:g} s (lock_timeout_s)"
                    )
                    raise StateUnavailableError(self._name(), reason) from None
                time.sleep(_POLL_S)
            else:
                return

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = str(error)
            if error.errno in _FULL:
                raise StateQuotaError(self._name(), reason) from error
            if error.errno in _REFUSED:
                raise StateAccessError(self._name(), reason) from error
            raise StateUnavailableError(self._name(), reason, applied="unknown") from error
