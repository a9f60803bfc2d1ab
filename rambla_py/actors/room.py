"""This module lets publishers wait for room in a mailbox, where they may."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.actors.mailbox import Mailbox

__all__ = ["Room", "enter_worker", "is_inside_worker", "leave_worker", "must_not_wait"]

_workers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
"""The threads that run workers: who waits for room in one of them may wait for himself.

The threads and not their identities: the identity of a worker that died is given to the next thread.
"""


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


class Room:
    """Who waits for a free place in one mailbox, first come, first served."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self.waiters: deque[Callable[[], None]] = deque()

    def when_free(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` once, when a place may have become free; at once when there is one."""
        self.waiters.append(wake)
        if not self._mailbox.full:
            self.offer()

    def wait(self, timeout_s: float) -> bool:
        """Wait until there is a place; say whether there is, within ``timeout_s``."""
        deadline = time.monotonic() + timeout_s
        while self._mailbox.full:
            gate = threading.Lock()
            gate.acquire()
            self.when_free(gate.release)
            if not gate.acquire(timeout=max(0.0, deadline - time.monotonic())):
                self.forget(gate.release)
                return not self._mailbox.full
        return True

    def forget(self, wake: Callable[[], None]) -> None:
        """Wait no more; a place offered meanwhile goes to the next."""
        try:
            self.waiters.remove(wake)
        except ValueError:
            self.offer()

    def offer(self) -> None:
        """Wake as many as there are free places; each looks again."""
        mailbox = self._mailbox
        for _ in range(max(0, mailbox.room - len(mailbox.ready))):
            try:
                self.waiters.popleft()()
            except IndexError:
                return
