"""A lock that is free on both sides of a fork.

A child is a copy of its parent, with the thread that forked and no other: a lock that another thread held is
held for ever, and what it protected may be inconsistent. So these locks are taken before a fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["fork_lock", "fork_rlock"]


def fork_lock(before_fork: Callable[[], Any] | None = None) -> threading.Lock:
    """Return a lock for code that never waits for another one of these.

    ``before_fork`` is called under the lock in the parent, so that nothing that may not be shared crosses the
    fork. It must be a bound method, whose object is not kept alive.

    The lock is Python's own: ``with`` takes it in one step. An exception from a signal handler could leave a
    lock that is taken by a method in Python locked for ever.
    """
    lock = threading.Lock()
    _register(lock, before_fork)
    return lock


def fork_rlock(before_fork: Callable[[], Any] | None = None) -> threading.RLock:
    """Return a lock as ``fork_lock`` does, which its thread may take again.

    That is for signal handlers and finalizers, whose user finds out and refuses.
    """
    lock = threading.RLock()
    _register(lock, before_fork)
    return lock


# Reentrant: a signal handler may make a lock while its own thread does, or forks.
_guard = threading.RLock()
_locks: weakref.WeakKeyDictionary[
    threading.Lock | threading.RLock, weakref.WeakMethod[Callable[[], Any]] | None
]
_locks = weakref.WeakKeyDictionary()
_held: list[threading.Lock | threading.RLock] = []


def _register(lock: threading.Lock | threading.RLock, before_fork: Callable[[], Any] | None) -> None:
    with _guard:
        _locks[lock] = None if before_fork is None else weakref.WeakMethod(before_fork)


def _before() -> None:
    _guard.acquire()
    for lock, before_fork in _all():
        lock.acquire()
        _held.append(lock)
        prepare = None if before_fork is None else before_fork()
        if prepare is not None:
            prepare()


def _all() -> list[tuple[threading.Lock | threading.RLock, weakref.WeakMethod[Callable[[], Any]] | None]]:
    while True:
        try:
            return list(_locks.items())
        except RuntimeError:  # a signal handler has added one in between
            continue


def _after() -> None:
    while _held:
        _held.pop().release()
    _guard.release()


os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
