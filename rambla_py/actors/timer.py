"""This module is the actor that lets time pass for the targets: retries fall due, messages expire."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

from rambla_py.actors.actor import Actor, OnDeath
from rambla_py.actors.upkeep import tick

if TYPE_CHECKING:
    from rambla_py.actors.target import Target

__all__ = ["Timer", "Watch"]

_NEVER = float("inf")


class Watch:
    """Which target wants to be looked at when; it outlives the timer, so that its death loses nothing."""

    def __init__(self) -> None:
        self.timer: Timer | None = None
        # Reentrant, for a signal handler or a finalizer may publish while its own thread is in here.
        self._lock = threading.RLock()
        self._at: dict[Target, float] = {}
        self._heap: list[tuple[float, int, Target]] = []
        self._ties = itertools.count()

    def add(self, target: Target, at: float) -> None:
        """Look at a target at that time, on the monotonic clock, or sooner; from any thread."""
        with self._lock:
            if self._at.get(target, _NEVER) <= at:
                return
            self._at[target] = at
            heapq.heappush(self._heap, (at, next(self._ties), target))
            first = self._heap[0][2] is target
        if first and self.timer is not None:
            self.timer.wake()

    def take_due(self, now: float) -> list[Target]:
        """Take the targets whose time has come, each once."""
        with self._lock:
            due = []
            while self._heap and self._heap[0][0] <= now:
                at, _, target = heapq.heappop(self._heap)
                if self._at.get(target) == at:  # else it was to be looked at sooner, and has been
                    del self._at[target]
                    due.append(target)
        return due

    def next_at(self) -> float | None:
        """Return when the next target is to be looked at."""
        with self._lock:
            return self._heap[0][0] if self._heap else None


class Timer(Actor):
    """Ticks the targets. It runs no user code, so nothing that users write can stop time."""

    def __init__(self, watch: Watch, on_death: OnDeath) -> None:
        super().__init__("rambla timer", on_death)
        self._watch = watch
        watch.timer = self

    def begun(self) -> None:
        self._look()

    def receive(self, message: Any) -> None:
        self._look()

    def _look(self) -> None:
        for target in self._watch.take_due(time.monotonic()):
            again = tick(target, time.monotonic())
            if again is not None:
                self._watch.add(target, again)
        self.actor_inbox.due = self._watch.next_at()
