"""A lock that is free on both sides of a fork.

A child is a copy of its parent, with the thread that forked and no other: a lock that another thread held is
held for ever, and what it protected may be inconsistent. So these locks are taken before a fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["ForkLock"]


class ForkLock:
    """A lock for code that never waits for another ``ForkLock``; use it with ``with``.

    ``before_fork`` is called under the lock in the parent, so that nothing that may not be shared crosses the
    fork. It must be a bound method, whose object is not kept alive. ``reentrant``: the thread that has it may
    take it again, in a signal handler or a finalizer; its user finds out and refuses.
    """

    def __init__(self, before_fork: Callable[[], Any] | None = None, *, reentrant: bool = False) -> None:
        self._lock = threading.RLock() if reentrant else threading.Lock()
        self._before_fork = None if before_fork is None else weakref.WeakMethod(before_fork)
        with _guard:
            _locks.add(self)

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; return whether it was taken, which it may not be without ``blocking``."""
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Let go of the lock."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


_guard = threading.Lock()
_locks: weakref.WeakSet[ForkLock] = weakref.WeakSet()
_held: list[ForkLock] = []


def _before() -> None:
    _guard.acquire()
    for lock in list(_locks):
        lock._lock.acquire()
        _held.append(lock)
        prepare = None if lock._before_fork is None else lock._before_fork()
        if prepare is not None:
            prepare()


def _after() -> None:
    while _held:
        _held.pop()._lock.release()
    _guard.release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
