"""Hooks for the exit of the process and for forks, which notify the running apps."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import Protocol

from rambla_py.runtime.worker_threads import leave_worker

__all__ = ["ProcessListener", "hook_multiprocessing", "register", "registered", "unregister"]

_MOST_INTERRUPTIONS = 5


class ProcessListener(Protocol):
    """Something that must be stopped when the process exits."""

    def wait_for_connects(self) -> None:
        """Wait for connects that may need new threads; soon no thread can be started."""

    def stop_at_exit(self, *, at_once: bool) -> None:
        """Stop, within the usual time-out or at once; no thread can be started any more."""

    def after_fork(self) -> None:
        """Reset in a forked child: everything that ran belongs to the parent."""


_listeners: dict[ProcessListener, None] = {}
"""Registered listeners, in order; strong references, so that an app without another one is stopped too."""

_interrupted = False
"""Whether the exit was interrupted before the hook stopped anything."""


def register(listener: ProcessListener) -> None:
    """Notify a listener from now on."""
    _listeners[listener] = None


def unregister(listener: ProcessListener) -> None:
    """Stop notifying a listener."""
    _listeners.pop(listener, None)


def registered() -> list[ProcessListener]:
    """Return what runs, in the order of registration."""
    return list(_listeners)


def hook_multiprocessing() -> None:
    """Stop the apps of a multiprocessing child too: it ends with ``os._exit``, which skips atexit."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _stop_all, exitpriority=100)


def _stop_all() -> None:
    """Stop all listeners; once interrupted (a second Ctrl-C), end the rest at once and return."""
    at_once = _interrupted
    for _ in range(_MOST_INTERRUPTIONS):
        try:
            for listener in list(_listeners):
                listener.stop_at_exit(at_once=at_once)
        except BaseException:  # raised by a signal handler; the process ends anyway
            at_once = True
        else:
            return


def _forked() -> None:
    leave_worker()
    for listener in list(_listeners):
        listener.after_fork()


def _let_all_connect() -> None:
    global _interrupted
    try:
        for listener in list(_listeners):
            listener.wait_for_connects()
    except BaseException:  # an interruption of the exit, which this is a part of
        _interrupted = True


atexit.register(_stop_all)
# Private, and what concurrent.futures relies on: it runs while threads can still be started (3.12.0 and
# 3.12.1 excepted), where atexit runs after. A handler may need a thread of its own to connect.
with contextlib.suppress(AttributeError):
    threading._register_atexit(_let_all_connect)  # type: ignore[attr-defined]  # private
os.register_at_fork(after_in_child=_forked)
