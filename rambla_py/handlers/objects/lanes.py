"""This module runs the puts of one connection on threads of its own, a bounded number at a time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Lanes"]

Job = TypeVar("Job")


class Lanes(Generic[Job]):
    """Daemon threads, started as they are needed, each running one job after the other.

    ``run(job)`` must not raise. ``end(error)`` lets no further job start: those that wait, and those that
    come later, go to ``refuse(job, error)`` instead. Threads rather than an event loop: obstore's blocking
    put takes half the CPU of its awaitable one (50 us where it is 120), and does twice as many a second.
    """

    def __init__(
        self, run: Callable[[Job], None], refuse: Callable[[Job, Any], None], *, most: int, name: str
    ) -> None:
        self._run, self._refuse, self._most, self._name = run, refuse, most, name
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0
        self._error: Any = None

    def put(self, job: Job) -> None:
        """Run a job as soon as a thread is free; returns at once."""
        with self._lock:
            error = self._error
            if error is None:
                self._jobs.put(job)
                if self._jobs.qsize() > self._idle and self._threads < self._most:
                    self._threads += 1
                    number = self._threads
                    threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()
        if error is not None:
            self._refuse(job, error)

    def end(self, error: Any) -> None:
        """Start nothing more, and refuse what waits; what runs goes on. Only the first call counts."""
        waiting: list[Job] = []
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            while not self._jobs.empty():
                job = self._jobs.get()
                if job is not None:
                    waiting.append(job)
            for _ in range(self._threads):
                self._jobs.put(None)
        for job in waiting:
            self._refuse(job, error)

    @property
    def ended(self) -> bool:
        """Whether ``end`` was called."""
        return self._error is not None

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                return
            self._run(job)
