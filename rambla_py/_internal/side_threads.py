"""Threads beside a worker's own, started before a handler or an event loop needs them.

From Python 3.12 on the interpreter starts no thread once it is ending. A handler that needs one to connect
could then deliver nothing of what was published just before.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from rambla_py._internal.waiting import Signal, wait

__all__ = ["Running", "SideThread", "adopt", "run_on_thread"]

_of_worker = threading.local()


class Running(Protocol):
    """A call that runs on a thread of its own."""

    def is_alive(self) -> bool: ...

    def join(self, timeout: float) -> None: ...


class SideThread:
    """A daemon thread that runs one call at a time; it is ready for the next when that has returned."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._free = threading.Lock()
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def try_run(self, call: Callable[[], object], name: str) -> Running | None:
        """Run a call; return None while another one runs, and once it is closed."""
        if not self._free.acquire(blocking=False):
            return None
        running = _Call(call, name)
        with self._closing:
            if self._closed:
                return None
            self._calls.put(running)
        return running

    def close(self) -> None:
        """End the thread after the call that it runs."""
        with self._closing:
            self._closed = True
            self._calls.put(None)

    def _run(self) -> None:
        while (running := self._calls.get()) is not None:
            idle_name, self._thread.name = self._thread.name, running.name
            try:
                running.run()
            finally:
                self._thread.name = idle_name
                self._free.release()
                running.returned.set()
                del running  # while it waits for the next call, it keeps nothing of the last one


class _Call:
    def __init__(self, call: Callable[[], object], name: str) -> None:
        self._call: Callable[[], object] | None = call
        self.name, self.returned = name, Signal()

    def run(self) -> None:
        """Run the call, and let go of it: its object may refer to this one in turn."""
        call, self._call = self._call, None
        if call is not None:
            call()

    def is_alive(self) -> bool:
        return not self.returned

    def join(self, timeout: float) -> None:
        wait(self.returned, timeout)


def adopt(threads: Sequence[SideThread]) -> None:
    """Let calls from this thread run on these threads."""
    _of_worker.threads = threads


def run_on_thread(call: Callable[[], object], name: str) -> Running:
    """Run a call on a daemon thread: one prepared for this worker, or a new one.

    Raises ``RuntimeError`` when there is neither.
    """
    for side in getattr(_of_worker, "threads", ()):
        running: Running | None = side.try_run(call, name)
        if running is not None:
            return running
    thread = threading.Thread(target=call, name=name, daemon=True)
    thread.start()
    return thread
