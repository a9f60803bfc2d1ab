"""This module is the actor that starts children in order and restarts them when they die."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rambla_py.actors.actor import Actor, OnDeath
from rambla_py.actors.plan import Strategy
from rambla_py.policy import restarts_exceeded

__all__ = ["Child", "Supervisor"]

log = logging.getLogger("rambla_py.supervisor")

_LOOK_S = 0.25


class _Handle(Protocol):
    def is_alive(self) -> bool: ...

    def halt(self, timeout_s: float) -> bool: ...


class Child:
    """How a child is started: ``start(on_death)`` returns its handle; ``watched``: look whether it died."""

    def __init__(
        self, name: str, start: Callable[[OnDeath], _Handle], *, lazy: bool = False, watched: bool = False
    ) -> None:
        self.name, self.start, self.lazy, self.watched = name, start, lazy, watched


class Supervisor(Actor):
    """Starts its children in order; restarts one that dies, or (rest for one) it and all after it.

    After more than ``max_restarts`` in ``max_seconds`` it is ``down``, tells so to ``on_state``, and tries
    again every ``slow_restart_s``; its own parent and siblings do not notice.
    """

    def __init__(
        self,
        name: str,
        children: Sequence[Child],
        on_death: OnDeath,
        *,
        strategy: Strategy,
        max_restarts: int = 10,
        max_seconds: float = 60.0,
        slow_restart_s: float = 30.0,
        on_state: Callable[[str | None], None] = lambda state: None,
        wanted: set[str] | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        super().__init__(f"rambla {name} supervisor", on_death)
        self._children = list(children)
        self._strategy = strategy
        self._max_restarts, self._max_seconds = max_restarts, max_seconds
        self._slow_restart_s = slow_restart_s
        self._on_state = on_state
        self._running: dict[str, _Handle] = {}
        self._wanted = set() if wanted is None else wanted
        self._wanted |= {child.name for child in children if not child.lazy}
        self._restarts: deque[float] = deque(maxlen=max_restarts + 1)
        self._retry_at = 0.0
        self._state: str | None = None
        self.stopping = stopping or threading.Event()

    def begun(self) -> None:
        self._look()

    def receive(self, message: Any) -> None:
        self._look()

    def on_stop(self) -> None:
        self.stopping.set()
        self._stop_from(0)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """End the children: whoever restarts this supervisor starts them anew."""
        self._stop_from(0)
        super().on_failure(exception_type, exception_value, traceback)

    def halt(self, timeout_s: float) -> bool:
        """Stop the children in reverse order, then itself."""
        self.stopping.set()
        return super().halt(timeout_s)

    def _look(self) -> None:
        now = time.monotonic()
        self.actor_inbox.due = None
        if now < self._retry_at:
            self.actor_inbox.due = self._retry_at
            return
        dead = [at for at, child in enumerate(self._children) if self._is_dead(child)]
        if dead and not self._may_restart(len(dead), now):
            return
        if dead and self._strategy == "rest_for_one":
            self._stop_from(dead[0])
        for at in dead:
            self._running.pop(self._children[at].name, None)
        self._start_missing()
        if any(child.watched for child in self._children):
            self.actor_inbox.due = min(self.actor_inbox.due or float("inf"), time.monotonic() + _LOOK_S)

    def _is_dead(self, child: Child) -> bool:
        handle = self._running.get(child.name)
        return handle is not None and not handle.is_alive()

    def _may_restart(self, deaths: int, now: float) -> bool:
        self._restarts.extend([now] * deaths)
        if not restarts_exceeded(
            self._restarts, now, max_restarts=self._max_restarts, max_seconds=self._max_seconds
        ):
            return True
        log.error("%s: down after %d restarts in %g s", self.name, self._max_restarts, self._max_seconds)
        self._restarts.clear()
        self._tell("down")
        self._retry_at = self.actor_inbox.due = now + self._slow_restart_s
        return False

    def _start_missing(self) -> None:
        for child in self._children:
            if child.name in self._running or child.name not in self._wanted:
                continue
            if self.stopping.is_set():
                return
            try:
                self._running[child.name] = child.start(lambda error: self.wake())
            except Exception as error:  # an external server that does not start: wait and try again
                self._not_started(child, error)
                return
        self._retry_at = 0.0
        self._tell(None)

    def _tell(self, state: str | None) -> None:
        """Tell a new state, once: in between, the note on the target may be another's."""
        if state != self._state:
            self._state = state
            self._on_state(state)

    def _not_started(self, child: Child, error: Exception) -> None:
        log.error("%s: %s did not start: %s", self.name, child.name, error)
        now = time.monotonic()
        if self._may_restart(1, now):
            self._tell("connecting")
            self._retry_at = self.actor_inbox.due = now + 1.0

    def _stop_from(self, first: int) -> None:
        for child in reversed(self._children[first:]):
            handle = self._running.pop(child.name, None)
            if handle is not None:
                handle.halt(5.0)
