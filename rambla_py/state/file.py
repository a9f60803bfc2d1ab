"""This module keeps each record in a file of its own, in a folder that processes may share. POSIX only."""

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

import msgspec

from rambla_py.state.errors import (
    StateAccessError,
    StateCorruptError,
    StateQuotaError,
    StateUnavailableError,
)
from rambla_py.state.forks import ForkLock
from rambla_py.state.record import Row
from rambla_py.state.rows import RowStore

__all__ = ["FileStore"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EISDIR}
_LOCK_NAME = ".lock"
_NEW = ".new-"
_END = ".json"
_POLL_S = 0.005


class _File(msgspec.Struct):
    """What stands in a file."""

    key: str
    created_at: float
    updated_at: float
    expires_at: float | None
    value: msgspec.Raw


class FileStore(RowStore):
    """Keeps each record as a JSON file in the folder ``path``, which is made where it is missing.

    Any number of threads and processes may share the folder, on one machine. Whoever writes holds ``flock``
    on ``.lock`` in it, for ``lock_timeout_s`` at most; a record is written aside and moved into place, so
    that a reader, or whoever comes after a crash, finds the old record or the new one whole. With ``fsync``
    the disk has it before ``set`` returns. ``set_many`` keeps each record whole, not all of them together.

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
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock=clock)
        self.path = Path(path).expanduser().absolute()
        self._fsync, self._lock_timeout_s = fsync, lock_timeout_s
        self._fork_lock = ForkLock()

    def _name(self) -> str:
        return f"FileStore({str(self.path)!r})"

    def _open(self) -> None:
        with self._mapped():
            self.path.mkdir(parents=True, exist_ok=True)
        with self._locked():
            # Whoever writes holds the lock: what was begun and not finished is left by one that died.
            for left in self.path.glob(f"{_NEW}*"):
                left.unlink(missing_ok=True)

    def _read(self, key: str) -> Row | None:
        with self._mapped():
            return self._row_of(self._place(key))

    def _write(self, rows: Sequence[Row], *, exact: bool) -> Sequence[Row]:
        with self._locked():
            kept = [row if exact else row.since(self._sound(self._place(row.key))) for row in rows]
            new: list[Path] = []
            try:
                new.extend(self._written(row) for row in kept)
                for path, row in zip(new, kept, strict=True):
                    path.rename(self._place(row.key))
            except BaseException:
                for path in new:
                    path.unlink(missing_ok=True)
                raise
            self._sync_folder()
        return kept

    def _remove(self, key: str, now: float) -> bool:
        with self._locked():
            place = self._place(key)
            row = self._sound(place)
            if not place.exists():
                return False
            place.unlink()
            self._sync_folder()
        return row is None or not row.expired(now)

    def _read_all(self) -> Iterable[Row]:
        with self._mapped():
            return [row for path in self._records() if (row := self._row_of(path)) is not None]

    def _wipe(self) -> None:
        with self._locked():
            for path in self._records():
                path.unlink(missing_ok=True)
            self._sync_folder()

    def _sweep(self, now: float) -> int:
        with self._locked():
            gone = [path for path in self._records() if (row := self._sound(path)) and row.expired(now)]
            for path in gone:
                path.unlink(missing_ok=True)
            self._sync_folder()
        return len(gone)

    def _place(self, key: str) -> Path:
        """Return the file of a key: readable as far as it goes, and told apart by a digest."""
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", key)[:40]
        return self.path / f"{readable}-{hashlib.sha256(key.encode()).hexdigest()[:32]}{_END}"

    def _records(self) -> list[Path]:
        return [Path(entry) for entry in os.scandir(self.path) if entry.name.endswith(_END)]

    def _row_of(self, path: Path) -> Row | None:
        try:
            found = msgspec.json.decode(path.read_bytes(), type=_File)
        except FileNotFoundError:
            if not self.path.is_dir():
                raise
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateCorruptError(str(path), str(error)) from error
        return Row(found.key, bytes(found.value), found.created_at, found.updated_at, found.expires_at)

    def _sound(self, path: Path) -> Row | None:
        """Return the row of a file, or None where there is none, or what is there is damaged.

        A damaged record is told to who reads it, and keeps nobody from replacing or removing it.
        """
        try:
            return self._row_of(path)
        except StateCorruptError:
            return None

    def _written(self, row: Row) -> Path:
        """Write a row aside, and return where."""
        data = msgspec.json.encode(_File(row.key, *row[2:], msgspec.Raw(row.value)))
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
        # The inner lock belongs to whoever has the file open. A child that was forked now would have it too,
        # and go on holding it after this process was killed.
        with self._mapped(), self._fork_lock:
            lock = os.open(self.path / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
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
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = str(error)
            if error.errno in _FULL:
                raise StateQuotaError(self._name(), reason) from error
            if error.errno in _REFUSED:
                raise StateAccessError(self._name(), reason) from error
            raise StateUnavailableError(self._name(), reason, applied="unknown") from error
