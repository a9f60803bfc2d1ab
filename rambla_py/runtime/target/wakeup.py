"""Wake-ups of a target's workers, and the schedule of its periodic work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.policy import worker_of
from rambla_py.runtime.target.isolation import is_suspect

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.in_flight import InFlight


__all__ = ["Stuck", "TargetTimer", "WakeCallback", "WakeLimiter", "Wakeup", "WorkerGroup"]

_MOST_AT_ONCE = 8
_SHORTEST_S, _LONGEST_S = 0.02, 1.0
_NEVER = float("inf")


class Waker(Protocol):
    """Something to wake when a message is accepted."""

    def wake(self) -> None: ...


class WakeCallback:
    """A function that is called instead of waking a worker."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.wake = call


class WorkerGroup(Protocol):
    """The workers of a target, as the target uses them."""

    def sessions(self) -> list[InFlight]: ...

    def check_workers(self, now: float) -> None: ...

    def wake_workers(self, worker: int | None = None) -> None: ...

    def states(self) -> list[str]: ...

    def turned_at(self, now: float) -> float | None: ...

    def pending_callbacks(self) -> int: ...

    def try_suspects(self) -> None: ...

    def take_pending_callbacks(self) -> list[tuple[LiveDelivery, Any]]: ...


class Stuck(Protocol):
    """A worker whose thread is stuck in user code."""

    def is_alive(self) -> bool: ...


class Wakeup:
    """The workers of a target, including abandoned ones, and what to wake when a message is accepted.

    ``idle`` has the sleeping workers. Before the start it has a function that starts the channel, and after
    the stop one that drops late messages, so that publishers need no check of their own. ``no_workers`` is
    the worker group of a target without a pool.
    """

    def __init__(
        self,
        *,
        workers: int,
        start: Callable[[], None],
        no_workers: WorkerGroup,
        wake_limiter: WakeLimiter,
        timer: TargetTimer,
    ) -> None:
        self.no_workers = self.workers = no_workers
        self.start = start
        self.idle: deque[Waker] = deque([WakeCallback(start)])
        self.abandoned: list[Stuck] = []
        self.wake_limiter = wake_limiter
        self._workers, self._timer = workers, timer

    @property
    def has_workers(self) -> bool:
        """Whether there is a worker that is not closed: those of a pool whose server is away are."""
        return any(state != "closed" for state in self.workers.states())

    def attach(self, workers: WorkerGroup) -> None:
        """Wake this pool's workers from now on."""
        if self.workers is not workers:
            self.workers = workers
            self.idle.clear()

    def detach(self) -> None:
        """Start the channel at the next message, as at the first."""
        self.workers = self.no_workers
        self.idle.clear()
        self.idle.append(WakeCallback(self.start))

    def add_abandoned(self, worker: Stuck) -> None:
        """Count a worker whose thread is stuck in user code."""
        self.abandoned.append(worker)

    def forget_returned(self) -> None:
        """Stop counting the abandoned workers whose thread has ended."""
        self.abandoned = [worker for worker in self.abandoned if worker.is_alive()]

    def wake(self) -> None:
        """Wake one idle worker."""
        try:
            waker = self.idle.popleft()
        except IndexError:
            return
        try:
            waker.wake()
            if not self._timer.on:
                self._timer.watch()
        except BaseException:  # a signal, or no stack left: the next publisher must find it
            self.idle.append(waker)
            raise

    def wake_for(self, delivery: LiveDelivery) -> None:
        """Wake a worker that may take this delivery: that of its key, or any."""
        if is_suspect(delivery):
            self.workers.try_suspects()
        if delivery.key is not None:
            self.workers.wake_workers(worker_of(delivery.key, self._workers))
        if self.idle:
            self.wake()

    def wake_workers(self, workers: Iterable[int]) -> None:
        """Wake these workers if they sleep."""
        for worker in workers:
            self.workers.wake_workers(worker)

    def wake_all(self) -> None:
        """Wake every sleeping worker."""
        self.workers.wake_workers()


class _Sleeping(Protocol):
    def wake_now(self) -> None: ...


class WakeLimiter:
    """Wakes at most a few workers at a time: when one runs, the next is woken.

    A thousand woken threads that contend for the GIL cost 90 microseconds a message (measured). Once a woken
    worker runs, it is not limited. The methods take no lock and never block; thread-safe.
    """

    __slots__ = ("_due", "_woken")

    def __init__(self) -> None:
        self._due: deque[_Sleeping] = deque()
        self._woken: set[_Sleeping] = set()

    def wake(self, worker: _Sleeping) -> None:
        """Wake a worker now, or once one of those woken earlier runs."""
        if len(self._woken) < _MOST_AT_ONCE:
            self._woken.add(worker)
            worker.wake_now()
            return
        self._due.append(worker)
        # All of those may have started before this one was queued.
        if len(self._woken) < _MOST_AT_ONCE:
            self._next()

    def started(self, worker: _Sleeping) -> None:
        """Record that a woken worker runs, or never will run."""
        self._woken.discard(worker)
        if self._due:
            self._next()

    def _next(self) -> None:
        try:
            worker = self._due.popleft()
        except IndexError:  # another thread took it
            return
        self._woken.add(worker)
        worker.wake_now()


class TargetTimer:
    """Schedules the periodic work of a target; ``schedule`` runs it at a given time or sooner.

    While ``on``, the work runs every ``interval_s``, at ``due`` or sooner, until none is needed.
    """

    def __init__(self, config: ChannelConfig, schedule: Callable[[float], None]) -> None:
        soonest_s = min(config.attempt_timeout_s, config.policy.expires_s or _NEVER)
        self.interval_s = max(_SHORTEST_S, min(_LONGEST_S, soonest_s / 4))
        self.on = False
        self.due = _NEVER
        self._schedule = schedule

    def watch(self) -> None:
        """Run the periodic work from now on, until none is needed."""
        if not self.on:
            self.on = True
            self._schedule(time.monotonic() + self.interval_s)

    def pause(self) -> None:
        """Stop the periodic work, because none is needed."""
        self.on = False
        self.due = _NEVER

    def resume(self) -> None:
        """Continue the periodic work."""
        self.on = True

    def runs(self) -> None:
        """Record that the periodic work runs now."""
        self.due = _NEVER

    def runs_again(self, due: float) -> float:
        """Record and return when the periodic work runs next."""
        self.due = due
        return due

    def run_by(self, due: float | None) -> None:
        """Run the periodic work at that time or sooner; does nothing for None."""
        if due is not None and (due < self.due or not self.on):
            self.watch()
            self._schedule(due)
            self.due = due
