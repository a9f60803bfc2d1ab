"""Turns to write to a SQLite file, among threads and processes.

SQLite has no queue for its write lock: a process that writes one transaction after the other leaves the file
free for some microseconds at a time, and others wait for many seconds. Writers that met once at a file
therefore queue for an exclusive ``flock`` on a file beside it (``NAME-turn``), which the kernel grants in the
order of arrival. Only the head of the queue asks SQLite, and leaves the queue once it has the write lock.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["WriteLock", "begin_writing"]

_FIRST_POLL_S, _LAST_POLL_S = 0.000_05, 0.001
_LAST_TRY_S = 0.1
_LOOK_EVERY_S = 0.005
"""A look lets another thread take the GIL, which this one then waits for."""


class WriteLock:
    """The write lock of a file, for one connection whose busy timeout is set nowhere else.

    SQLite's own waiting is off while the connection writes, and is switched on again only when it reads: a
    connection that only writes asks SQLite for nothing but its transactions. ``begin_shared`` is for one that
    others read from as well: waiting is on again once the transaction has begun.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        (self._timeout_ms,) = connection.execute("PRAGMA busy_timeout").fetchone()
        self._file = _file_of(connection)
        self._queues, self._look_at = False, 0.0
        self._waits: bool | None = True  # None: an interruption came while it was being set

    def begin_writing(self) -> None:
        """Begin a transaction that may write; wait for others as long as the busy timeout says.

        Raises ``sqlite3.OperationalError``.
        """
        self._set_waits(False)
        # Until two writers meet there is no queue, and no file for it.
        if self._has_queue() or not _begun(self.connection, self._timeout_ms):
            self._look_at = 0.0
            deadline = time.monotonic() + self._timeout_ms / 1_000
            with _turn(self._file, deadline):
                _begin_before(deadline, self.connection)

    def _has_queue(self) -> bool:
        """Return whether writers queue, looked up now and then: the file stays once it is there."""
        now = time.monotonic()
        if not self._queues and now >= self._look_at:
            self._queues = os.path.exists(f"{self._file}-turn")
            self._look_at = now + _LOOK_EVERY_S
        return self._queues

    def begin_shared(self) -> None:
        """Begin as ``begin_writing`` does, and let SQLite wait by itself from then on."""
        try:
            self.begin_writing()
        finally:
            try:
                self.before_reading()
            except BaseException:
                # A signal handler may raise where a function begins, before the timeout is what it was.
                self.before_reading()
                raise

    def before_reading(self) -> None:
        """Let SQLite wait by itself: for one that opens, recovers or closes the file."""
        self._set_waits(True)

    def _set_waits(self, waits: bool) -> None:
        if self._waits is not waits:
            self._waits = None
            self.connection.execute(f"PRAGMA busy_timeout = {self._timeout_ms if waits else 0}")
            self._waits = waits


def begin_writing(connection: sqlite3.Connection) -> None:
    """Begin a transaction that may write; wait for others as long as the connection's busy timeout says.

    For a connection that others use as well, now and then: a ``WriteLock`` that is kept is cheaper. Raises
    ``sqlite3.OperationalError``.
    """
    WriteLock(connection).begin_shared()


def _file_of(connection: sqlite3.Connection) -> str:
    """Return the path of a connection's file; empty in memory."""
    return next((row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"), "")


def _begun(connection: sqlite3.Connection, timeout_ms: int) -> bool:
    """Begin if the file is free; return whether it was, or may be waited for."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if not _is_busy(error) or timeout_ms == 0:
            raise
        return False
    return True


def _begin_before(deadline: float, connection: sqlite3.Connection) -> None:
    pause_s = _FIRST_POLL_S
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() > deadline:
                raise
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.1, _LAST_POLL_S)
        else:
            return


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorname.startswith("SQLITE_BUSY")


@contextmanager
def _turn(file: str, deadline: float) -> Iterator[None]:
    """Wait for this writer's turn; go on without it when it does not come, or there cannot be one."""
    turn = _opened(file)
    try:
        if turn is not None:
            turn.wait(deadline - _LAST_TRY_S - time.monotonic())
        yield
    finally:
        if turn is not None:
            turn.end()


def _opened(file: str) -> _Turn | None:
    """Open the file of turns, with the mode of the database; None in memory, or where it cannot be made."""
    if not file:
        return None
    with suppress(OSError):
        mode = os.stat(file).st_mode & 0o666
        return _Turn(os.open(f"{file}-turn", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, mode))
    return None


class _Turn:
    """A place in the queue, which is left by ``end``, or at the latest when nothing refers to it any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()
        self._arrived = threading.Event()
        self._waits = self._ended = False
        _turns.add(self)

    def __del__(self) -> None:
        self._release()  # an exception from a signal handler came before ``end`` did it

    def wait(self, timeout_s: float) -> None:
        """Return once the turn has come, or the time is over."""
        descriptor = self._descriptor
        assert descriptor is not None
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        # A thread does the waiting, since a blocking ``flock`` has no time-out.
        self._waits = True
        try:
            threading.Thread(target=self._block, args=(descriptor,), name="rambla turn", daemon=True).start()
        except RuntimeError:  # the interpreter is ending, and starts no thread
            self._waits = False
            return
        self._arrived.wait(max(timeout_s, 0.0))

    def end(self) -> None:
        """Leave the queue: now, or as soon as the lock is there that a thread waits for."""
        with self._lock:
            self._ended = True
            if not self._waits:
                self._release()

    def leave_to_parent(self) -> None:
        """Close the descriptor in a forked child: it would keep the lock when the parent is killed."""
        self._lock = threading.Lock()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _block(self, descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with self._lock:
            self._waits = False
            self._arrived.set()
            if self._ended:
                self._release()

    def _release(self) -> None:
        descriptor = self._descriptor
        if descriptor is not None:
            # Unlocked first: a child forked meanwhile has the same open file, and would keep the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            self._descriptor = None
            os.close(descriptor)


_turns: weakref.WeakSet[_Turn] = weakref.WeakSet()


def _leave_turns_to_parent() -> None:
    for turn in list(_turns):
        turn.leave_to_parent()


os.register_at_fork(after_in_child=_leave_turns_to_parent)
