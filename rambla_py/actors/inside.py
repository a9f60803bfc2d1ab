"""This module knows which threads run workers: who waits for one of them there may wait for himself."""

from __future__ import annotations

import asyncio
import threading
import weakref

__all__ = ["enter_worker", "is_inside_worker", "leave_worker", "must_not_wait"]

# The threads and not their identities: the identity of a worker that died is given to the next thread.
_workers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def enter_worker() -> None:
    """Mark this thread as a worker's."""
    _workers.add(threading.current_thread())


def leave_worker() -> None:
    """Take the mark away: the thread goes on with something else."""
    _workers.discard(threading.current_thread())


def is_inside_worker() -> bool:
    """Say whether this thread runs a worker: a handler or a callback is calling."""
    return threading.current_thread() in _workers


def must_not_wait() -> bool:
    """Say whether waiting here would stop a worker, or every task of a running event loop."""
    return is_inside_worker() or _inside_loop()


def _inside_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
