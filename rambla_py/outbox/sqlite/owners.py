"""Owners of a SQLite journal: who delivers which rows, decided by locks of the operating system."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rambla_py._internal.private_files import make_private_folder
from rambla_py.outbox.errors import OutboxBusyError

__all__ = ["Owners"]

# Record locks belong to a process: they end with it, and a forked child has none of them. Closing any
# descriptor of a file gives up the process's locks on it, so no process opens a file that it has locked.
_held: dict[tuple[str, int], int] = {}
# Reentrant: a signal handler must not wait for its own thread. It is refused: what it opens and closes could
# be a file that its thread has just locked.
_guard = threading.RLock()
_in_use = False


@contextmanager
def _guarded(name: str) -> Iterator[None]:
    global _in_use
    with _guard:
        if _in_use:
            raise OutboxBusyError(name, "this thread was interrupted while it was taking or giving up a lock")
        try:
            _in_use = True
            yield
        finally:
            _in_use = False


def _start_over() -> None:
    """Forget, in a forked child, the locks that its parent has."""
    global _guard, _in_use
    _guard, _in_use = threading.RLock(), False
    for descriptor in _held.values():
        os.close(descriptor)  # the parent's locks stay: they are not this process's
    _held.clear()


os.register_at_fork(after_in_child=_start_over)


class Owners:
    """The lock files of one journal, one for each owner, in a folder beside it.

    An owner is one start of one process on one journal; the process that has the lock delivers its rows.
    """

    def __init__(self, journal: Path) -> None:
        self._folder = journal.with_name(f"{journal.name}-owners")
        self._name = os.path.realpath(self._folder)
        self.mine: list[int] = []

    def lock(self, number: int) -> bool:
        """Take the lock of an owner; return False if a process has it, even this one. Raises ``OSError``."""
        with _guarded(self._name):
            if (self._name, number) in _held:
                return False
            make_private_folder(self._folder)
            descriptor = os.open(self._folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                os.close(descriptor)
                return False
            _held[self._name, number] = descriptor
            self.mine.append(number)
            return True

    def unlock(self, number: int, *, remove: bool = False) -> None:
        """Let go of an owner; ``remove`` its file if it has no rows any more."""
        with _guarded(self._name):
            descriptor = _held.pop((self._name, number), None)
            if descriptor is None:
                return
            self.mine.remove(number)
            if remove:
                with suppress(OSError):
                    os.unlink(self._folder / str(number))
            os.close(descriptor)

    def is_alive(self, number: int) -> bool:
        """Return whether a process has the lock of an owner; leaves the lock as it is."""
        with _guarded(self._name):
            if (self._name, number) in _held:
                return True
            try:
                descriptor = os.open(self._folder / str(number), os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                return False
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return True
            finally:
                os.close(descriptor)
            return False
