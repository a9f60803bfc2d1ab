"""Tracks which threads run workers, so that code on them never blocks waiting for itself."""

from __future__ import annotations

import threading
import weakref

from rambla_py._internal.waiting import in_event_loop

__all__ = ["enter_worker", "is_inside_worker", "leave_worker", "must_not_wait"]

# Thread objects, not identifiers: a new thread may reuse the identifier of a worker that died.
_workers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def enter_worker() -> None:
    """Mark the current thread as a worker's."""
    _workers.add(threading.current_thread())


def leave_worker() -> None:
    """Remove the mark from the current thread."""
    _workers.discard(threading.current_thread())


def is_inside_worker() -> bool:
    """Return whether the current thread runs a worker: the caller is a handler, callback or listener."""
    return threading.current_thread() in _workers


def must_not_wait() -> bool:
    """Return whether blocking here would block a worker, or all tasks of a running event loop."""
    return is_inside_worker() or in_event_loop()
