"""A lock that is free on both sides of a fork.

A child is a copy of its parent, with the thread that forked and no other: a lock that another thread held is
held for ever, and what it protected may be inconsistent. So these locks are taken before a fork.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import compress
from operator import methodcaller
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
_prepared = False
"""Whether all locks are held for a fork, and their owners prepared."""
_ACQUIRE, _RELEASE = methodcaller("acquire"), methodcaller("release")


def _register(lock: threading.Lock | threading.RLock, before_fork: Callable[[], Any] | None) -> None:
    with _guard:
        _locks[lock] = None if before_fork is None else weakref.WeakMethod(before_fork)


def _before() -> None:
    global _prepared
    if _prepared:
        return
    _take([] if _guard in _held else [_guard])
    known = _all()
    _take([lock for lock, _ in known if lock not in _held])
    for _, before_fork in known:
        prepare = None if before_fork is None else before_fork()
        if prepare is not None:
            prepare()
    _prepared = True


def _take(locks: Sequence[threading.Lock | threading.RLock]) -> None:
    """Take locks, each together with its record: no exception of a signal handler comes between the two.

    It would otherwise leave a lock that is never released. A handler runs between two steps of Python or in
    ``acquire``, before the lock is taken; here ``acquire``, ``compress`` and ``extend`` are one step.
    """
    _held.extend(compress(locks, map(_ACQUIRE, locks)))


def _all() -> list[tuple[threading.Lock | threading.RLock, weakref.WeakMethod[Callable[[], Any]] | None]]:
    while True:
        try:
            return list(_locks.items())
        except RuntimeError:  # a signal handler has added one in between
            continue


def _after() -> None:
    global _prepared
    _prepared = False
    with suppress(IndexError):  # the last lock has been released
        deque(map(_RELEASE, iter(_held.pop, None)), maxlen=0)


# Twice each, and each does what is left: an exception of a signal handler ends the hook that it interrupts.
for _ in range(2):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
