"""Shutdown of an app, on the timer's thread."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from rambla_py._internal.waiting import Signal
from rambla_py.runtime.flushing import Flush
from rambla_py.runtime.target.shutdown import drop_later_than, shut
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.timer import TimerQueue
from rambla_py.telemetry.records import target_extra

__all__ = ["Shutdown", "StopRequest", "closing_line"]

log = logging.getLogger("rambla_py")

_HAND_OVER = 0.75
"""Part of the time-out after which a target with a fallback hands over what is not in flight."""

_UNREACHABLE_S = 1.5
"""For how long a stop waits for a backend that is away, if an outbox has its messages: one more probe."""

_LOOK_S = 0.05
"""Seconds between two checks of durable targets."""

_CALLBACKS_S = 0.01
"""Seconds between two checks for callbacks that still run."""


class StopRequest:
    """One call of ``stop``: its deadline on the monotonic clock, and the thread that made it."""

    __slots__ = ("deadline", "hand_over_at", "thread")

    def __init__(self, deadline: float, thread: int, now: float) -> None:
        self.deadline, self.thread = deadline, thread
        self.hand_over_at = now + _HAND_OVER * (deadline - now)


class Shutdown:
    """The shutdown of one app: calls of ``stop`` request it and wait for ``done``; the timer carries it out.

    Signals interrupt only the main thread. So an exception from a signal handler, in the thread that waits,
    never hits the timer's thread between taking a delivery and ending it.

    The first request in the list decides. A later one joins it, unless it comes from the same thread (a
    signal handler interrupted a stop) or from the exit hook; then it takes over. When exceptions have
    withdrawn all requests, workers continue, and the next request resumes the shutdown.
    """

    def __init__(
        self, stages: Sequence[Sequence[Target]], watch: TimerQueue, finish: Callable[[float], None]
    ) -> None:
        self.done = Signal()
        self._targets = [target for stage in stages for target in stage]
        self._before = {target: undelivered(target) for target in self._targets}
        self._has_durable = any(target.durability is not None for target in self._targets)
        self._watch, self._finish = watch, finish
        self._lock = threading.RLock()
        self._requests: list[StopRequest] = []
        self._drained_until: float | None = None
        self._began: float | None = None
        self._finishing = False
        self._steps = deque(self._plan(stages))

    def request(self, deadline: float, *, takes_over: bool = False) -> StopRequest:
        """Request a stop by ``deadline``, on the monotonic clock; from any thread."""
        request = StopRequest(deadline, threading.get_ident(), time.monotonic())
        with self._lock:
            takes_over = takes_over or any(other.thread == request.thread for other in self._requests)
            self._requests.insert(0 if takes_over else len(self._requests), request)
        self._watch.add(self._advance, 0.0)
        return request

    def withdraw(self, request: StopRequest) -> None:
        """Withdraw a request; without any other request, the shutdown is interrupted."""
        with self._lock:
            self._requests = [other for other in self._requests if other is not request]
            interrupted = not self._requests and not self._finishing
        if interrupted:  # here as well as on the timer: what fails from now on must not be dropped
            for target in self._targets:
                if not target.state.closed:
                    target.state.closing(math.inf)
        if not self.done:
            self._watch.add(self._advance, 0.0)

    # -- on the timer's thread ------------------------------------------------------------------------

    def _plan(self, stages: Sequence[Sequence[Target]]) -> Iterable[Callable[[], bool]]:
        """Yield the steps; a step is done once it returns True."""
        for stage in stages:
            yield _Flushed(stage, self._wake)
            yield functools.partial(_shut_all, stage)
            # A publisher that was not refused in time may have had a message accepted.
            yield _Flushed(stage, self._wake)

    def _wake(self) -> None:
        self._watch.add(self._advance, 0.0)

    def _advance(self, now: float) -> float | None:
        """Run the steps that can be done now; return when to run again."""
        with self._lock:
            request = self._requests[0] if self._requests else None
        if self._finishing:
            return None
        if request is None:
            self._drain_until(math.inf, math.inf)
            return None
        deadline, hand_over_at = request.deadline, request.hand_over_at
        self._drain_until(deadline, hand_over_at)
        if now >= hand_over_at:
            self._hand_over()
        self._leave_unreachable(now)
        while self._steps and self._steps[0]():
            self._steps.popleft()
        if now >= deadline or not (self._steps or self._callbacks_wait()):
            self._end(deadline)
            return None
        again = deadline if now >= hand_over_at else hand_over_at
        again = min(again, now + _LOOK_S) if self._has_durable else again
        again = again if self._steps else min(again, now + _CALLBACKS_S)
        return None if again == math.inf else again

    def _drain_until(self, deadline: float, hand_over_at: float) -> None:
        if deadline == self._drained_until:
            return
        self._drained_until = deadline
        for target in self._targets:
            if not target.state.closed:
                drop_later_than(target, hand_over_at if target.config.hands_over_at_stop else deadline)

    def _hand_over(self) -> None:
        """Hand over what is not in flight; deliveries in flight have until the deadline."""
        for target in self._targets:
            if target.config.hands_over_at_stop and not target.state.closed:
                shut(target)

    def _leave_unreachable(self, now: float) -> None:
        """End attempts of durable targets whose backend is away: the outbox keeps what they have."""
        self._began = self._began or now
        if now < self._began + _UNREACHABLE_S:
            return
        for target in self._targets:
            away = target.durability is not None and target.state.unreachable
            if away and not (target.state.closed or target.in_flight()):
                shut(target)

    def _callbacks_wait(self) -> bool:
        return any(target.settlements.waiting for target in self._targets)

    def _end(self, deadline: float) -> None:
        self._finishing = True
        try:
            self._finish(max(deadline, time.monotonic()))
            for target in self._targets:
                before = self._before[target]
                dropped, unknown = (now - then for now, then in zip(undelivered(target), before, strict=True))
                text = closing_line(dropped, unknown, target.counters.in_outbox)
                if text:
                    level, extra = _level(dropped + unknown), target_extra(target.config)
                    log.log(level, "%s: %s", target.config.name, text, extra=extra)
        finally:
            self.done.set()


class _Flushed:
    """A step that is done once everything that its targets had accepted at its start has ended."""

    def __init__(self, targets: Sequence[Target], wake: Callable[[], None]) -> None:
        self._targets, self._wake = targets, wake
        self._flush: Flush | None = None

    def __call__(self) -> bool:
        if self._flush is None:
            self._flush = Flush(self._targets)
            self._flush.done.when_set(self._wake)
        for target in self._targets:
            if target.rests_in_outbox:
                self._flush.skip(target)
        return bool(self._flush.done)


def _shut_all(targets: Iterable[Target]) -> bool:
    for target in targets:
        shut(target)
    return True


def undelivered(target: Target) -> tuple[int, int]:
    """Return how many deliveries of a target ended as dropped and as unknown."""
    statuses = target.counters.statuses
    return statuses["dropped"], statuses["unknown"]


def _level(lost: int) -> int:
    """Return the level of the closing line: what is kept needs no attention."""
    return logging.WARNING if lost else logging.INFO


def closing_line(dropped: int, unknown: int, kept: int = 0) -> str:
    """Return the log text for what a stop left undelivered; empty if there is nothing.

    >>> closing_line(57, 1)
    '58 not delivered (57 dropped, 1 unknown)'
    >>> closing_line(0, 0, kept=12)
    '12 kept in the outbox'
    """
    counts = {"dropped": dropped, "unknown": unknown}
    parts = ", ".join(f"{number} {word}" for word, number in counts.items() if number)
    lost = f"{dropped + unknown} not delivered ({parts})" if parts else ""
    return ", ".join(filter(None, (lost, f"{kept} kept in the outbox" if kept else "")))
