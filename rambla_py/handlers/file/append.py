"""Appending of whole lines to a file that several processes write and rotate."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from rambla_py.handlers.file.rotation import Rotation, mark_start, moved_aside, started_at

__all__ = ["Appended", "Appender", "Fsync"]

Fsync = Literal["always", "batch", "never"]

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
_sync = getattr(os, "fdatasync", os.fsync)


class Appended(msgspec.Struct):
    """How far an append came: lines that stand, then lines that may, then ``error`` for the rest."""

    kept: int = 0
    unsure: int = 0
    error: OSError | None = None


class Appender:
    """Appends lines under the file's own lock, so that no reader ever finds half a line for long.

    The file is opened for each append: what a rotation or logrotate moved away is never written to, and a
    forked child inherits nothing. Appends and rotations hold ``flock`` on it, which excludes other
    threads and other processes; the lock is released before waiting for the disk.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotation: Rotation,
        fsync: Fsync = "batch",
        on_rotated: Callable[[Path], None] = lambda path: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self._rotation, self._fsync, self._on_rotated, self._clock = rotation, fsync, on_rotated, clock

    def check(self) -> None:
        """Raise ``OSError`` where lines cannot go; the first line makes folder and file, and this nothing."""
        try:
            _let_go(self._open_locked(_FLAGS & ~os.O_CREAT))
        except FileNotFoundError:
            _check_folder(self.path.parent)

    def append(self, lines: Sequence[bytes]) -> Appended:
        """Write the lines, each with its line break, as far as they go; never raises ``OSError``.

        With ``fsync = "always"`` each line is on disk before the next is written, with ``"batch"`` all are
        before this returns.
        """
        done = Appended()
        while done.kept < len(lines) and done.error is None:
            try:
                self._append_some(lines, done)
            except OSError as error:
                done.error = error
        return done

    def _append_some(self, lines: Sequence[bytes], done: Appended) -> None:
        """Write as many lines as the file has room for, or move a full file aside."""
        fd = self._open_for_lines()
        try:
            status = os.fstat(fd)
            if self._is_due(status, len(lines[done.kept])):
                self._rotate()
                return
            if status.st_size == 0 and self._rotation.rotate_s is not None:
                mark_start(self.path, self._clock())
            chosen = self._fitting(lines, done.kept, status.st_size)
            whole, done.error = _write_lines(fd, chosen, _mend(fd, status.st_size))
            fcntl.flock(fd, fcntl.LOCK_UN)  # others need not wait for the disk
            self._settle(fd, whole, done, is_new=status.st_size == 0)
        finally:
            _let_go(fd)

    def _settle(self, fd: int, whole: int, done: Appended, *, is_new: bool) -> None:
        try:
            if self._fsync != "never" and whole:
                _sync(fd)
                if is_new:
                    _sync_folder(self.path.parent)
        except OSError as error:
            done.unsure, done.error = whole, error
        else:
            done.kept += whole

    def _is_due(self, status: os.stat_result, next_line: int) -> bool:
        if status.st_size == 0:
            return False
        started = self._clock()
        if self._rotation.rotate_s is not None:
            started = started_at(self.path, otherwise=status.st_mtime)
        return self._rotation.is_due(status.st_size, next_line, age_s=self._clock() - started)

    def _fitting(self, lines: Sequence[bytes], first: int, size: int) -> Sequence[bytes]:
        if self._fsync == "always":
            return lines[first : first + 1]
        return lines[first : first + self._rotation.room_for(lines[first:], size)]

    def _rotate(self) -> None:
        aside = moved_aside(self.path, self._clock())
        os.rename(self.path, aside)
        if self._fsync != "never":
            _sync_folder(self.path.parent)
        self._on_rotated(aside)

    def _open_for_lines(self) -> int:
        try:
            return self._open_locked(_FLAGS)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._open_locked(_FLAGS)

    def _open_locked(self, flags: int) -> int:
        while True:
            fd = os.open(self.path, flags, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise OSError(errno.EINVAL, "not a regular file", str(self.path))
                fcntl.flock(fd, fcntl.LOCK_EX)
                if _is_at(fd, self.path):
                    return fd
            except BaseException:
                _let_go(fd)
                raise
            # It was moved away while we waited for the lock: what is at the path now is what counts.
            _let_go(fd)


def _check_folder(folder: Path) -> None:
    """Raise ``OSError`` where a file, and the folders above it that are missing, could not be made."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def _let_go(fd: int) -> None:
    """Unlock and close: a child forked meanwhile has the file open too, and would go on holding the lock."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _mend(fd: int, size: int) -> bytes:
    """Return what ends a line that a killed process left cut, so that it spoils no other."""
    return b"\n" if size and os.pread(fd, 1, size - 1) != b"\n" else b""


def _write_lines(fd: int, lines: Sequence[bytes], prefix: bytes) -> tuple[int, OSError | None]:
    """Return how many lines stand whole, and the error that ended it; what is cut is taken back."""
    data = prefix + b"".join(lines)
    written, error = _write_all(fd, data)
    if error is None:
        return len(lines), None
    ends = list(itertools.accumulate(map(len, lines), initial=len(prefix)))
    whole = sum(1 for end in ends[1:] if end <= written)
    _take_back(fd, written - (ends[whole] if whole else 0))
    return whole, error


def _write_all(fd: int, data: bytes) -> tuple[int, OSError | None]:
    view, written = memoryview(data), 0
    while written < len(data):
        try:
            written += os.write(fd, view[written:])
        except OSError as error:
            return written, error
    return written, None


def _take_back(fd: int, count: int) -> None:
    """Cut the last bytes that we wrote, unless a program that does not lock has written behind them."""
    end = os.lseek(fd, 0, os.SEEK_CUR)
    # Where even this fails the next append ends the cut line.
    with contextlib.suppress(OSError):
        if count and os.fstat(fd).st_size == end:
            os.ftruncate(fd, end - count)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
