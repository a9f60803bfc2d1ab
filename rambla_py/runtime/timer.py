"""Timer of an app: one thread that runs jobs when they are due."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rambla_py.runtime.supervision.actor import Actor, OnDeath
from rambla_py.runtime.worker_threads import enter_worker, leave_worker

if TYPE_CHECKING:
    from rambla_py.runtime.target.target import Target

__all__ = ["Job", "Timer", "TimerQueue", "tick"]

log = logging.getLogger("rambla_py.timer")

_NEVER = float("inf")
_AFTER_ERROR_S = 1.0

Job = Callable[[float], float | None]
"""Called with the current monotonic time; returns when to run again, None for never."""


class TimerQueue:
    """The timer's jobs and their times; it outlives the timer, so that no job is lost if that dies."""

    def __init__(self) -> None:
        self.timer: Timer | None = None
        # Reentrant: a signal handler or a finalizer may publish while its own thread is in here.
        self._lock = threading.RLock()
        self._at: dict[Job, float] = {}
        self._heap: list[tuple[float, int, Job]] = []
        self._ties = itertools.count()

    def attach(self, timer: Timer) -> None:
        """Wake this timer from now on."""
        self.timer = timer

    def add(self, job: Job, at: float) -> None:
        """Run a job at that time, on the monotonic clock, or sooner; from any thread."""
        # A signal may interrupt this thread between any two lines; the next call must repair that.
        with self._lock:
            if self._at.get(job, _NEVER) > at:
                heapq.heappush(self._heap, (at, next(self._ties), job))
                self._at[job] = at
            first = bool(self._heap) and self._heap[0][0] >= at
        if first and self.timer is not None:
            self.timer.wake()

    def take_due(self, now: float) -> list[Job]:
        """Take the jobs that are due, each once."""
        with self._lock:
            due = []
            while self._heap and self._heap[0][0] <= now:
                at, _, job = heapq.heappop(self._heap)
                if self._at.get(job) == at:  # else the entry is stale: the job was moved forward and ran
                    del self._at[job]
                    due.append(job)
        return due

    def next_at(self) -> float | None:
        """Return when the next job is due."""
        with self._lock:
            return self._heap[0][0] if self._heap else None


class Timer(Actor):
    """Runs the jobs of a queue; none of them calls handlers or callbacks, so user code cannot block it."""

    def __init__(self, watch: TimerQueue, on_death: OnDeath) -> None:
        super().__init__("rambla timer", on_death)
        self._watch = watch
        watch.attach(self)

    def begun(self) -> None:
        enter_worker()  # a listener that publishes or stops on this thread must not wait for the timer
        self._run_due()

    def receive(self, message: Any) -> None:
        self._run_due()

    def on_stop(self) -> None:
        leave_worker()

    def _run_due(self) -> None:
        for job in self._watch.take_due(time.monotonic()):
            again = self._run_job(job)
            if again is not None:
                self._watch.add(job, again)
        self.wake_at(self._watch.next_at())

    def _run_job(self, job: Job) -> float | None:
        try:
            return job(time.monotonic())
        except Exception:  # must not keep the other jobs from running
            log.exception("a timer job raised; it runs again in %g s", _AFTER_ERROR_S)
            return time.monotonic() + _AFTER_ERROR_S


def tick(target: Target, now: float) -> float | None:
    """Do the periodic work of a target: release due retries, expire messages, wake idle workers.

    Returns when to run again; None while no periodic work is needed.
    """
    mailbox, wakeup, timer = target.mailbox, target.wakeup, target.timer
    timer.runs()
    for delivery in mailbox.unpark(now):
        wakeup.wake_for(delivery)
    for delivery in mailbox.take_expired(now):
        target.completion.expire(delivery)
    if target.probing.active:
        target.probing.send_due(now)
    for session in wakeup.workers.sessions():
        for delivery in session.take_back(expired_at=now):
            target.completion.expire(delivery)
    target.log.write_repeats(now)
    if target.backpressure.waiters:
        target.backpressure.offer()
    wakeup.workers.check_workers(now)
    if not mailbox.empty:
        if wakeup.workers is wakeup.no_workers:
            wakeup.start()  # again, because the publisher that started it may have been interrupted
        if not target.gathering.holds(now):
            wakeup.wake_all()  # a safety net: no worker may sleep while messages wait
    if target.settlements.waiting and not wakeup.has_workers:
        wakeup.no_workers.wake_workers()
    if _quiet(target):
        timer.pause()
        # A publisher that still saw the timer on has appended before this second check.
        if _quiet(target):
            return None
        timer.resume()
    due = (now + timer.interval_s, mailbox.next_due(), target.probing.next_due())
    return timer.runs_again(min(at for at in due if at is not None))


def _quiet(target: Target) -> bool:
    wakeup = target.wakeup
    return not (target.pending() or target.log.waiting) and len(wakeup.idle) >= max(
        1, len(wakeup.workers.states())
    )
