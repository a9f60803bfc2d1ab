"""The actor that starts the external servers and the pool of a channel, and restarts those that die."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.errors import StartError
from rambla_py.policy import restarts_exceeded
from rambla_py.runtime.supervision.actor import Actor, OnDeath

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig

__all__ = ["Child", "Reports", "Supervisor"]

_CHECK_S = 0.25
_HURRIED_S = 1.0
_HALT_S = 5.0
_LEAST_HALT_S = 0.25


class _Handle(Protocol):
    def is_alive(self) -> bool: ...

    def halt(self, timeout_s: float) -> bool: ...


class Child:
    """How a child is started: ``start()`` returns its handle, or raises ``StartError``.

    With ``unstable`` it is polled for its death; ``unstable(deaths, seconds)`` returns the error of one that
    does not stay up.
    """

    def __init__(
        self,
        name: str,
        start: Callable[[], _Handle],
        unstable: Callable[[int, float], StartError] | None = None,
    ) -> None:
        self.name, self.start, self.unstable = name, start, unstable


class Reports(Protocol):
    """What a supervisor reports to, on its own thread."""

    def down(self, error: StartError) -> None:
        """A child does not start, or does not stay up; it is tried again every ``slow_restart_s``."""

    def working(self) -> None:
        """All children run."""

    def restarting(self, number: int) -> None:
        """That many children died and are replaced."""


class Supervisor(Actor):
    """Starts its children in order; when one dies, restarts it and all after it (rest for one).

    A child that does not start, or that died more than ``max_restarts`` times in ``max_seconds``, takes the
    channel down: it, and all after it, are tried again every ``slow_restart_s``, while ``hurried()`` every
    second. Other channels do not notice.

    ``children`` is asked for the children at the start, until it returns them.
    """

    def __init__(
        self,
        config: ChannelConfig,
        children: Callable[[], Sequence[Child]],
        reports: Reports,
        on_death: OnDeath,
        *,
        hurried: Callable[[], bool],
        stopping: threading.Event,
    ) -> None:
        super().__init__(f"rambla {config.name} supervisor", on_death)
        self._config, self._list_children, self._reports = config, children, reports
        self._children: list[Child] = []
        self._running: dict[str, _Handle] = {}
        self._restarts: deque[float] = deque(maxlen=config.max_restarts + 1)
        self._failed_at = self._retry_at = 0.0
        self._working = False
        self._hurried, self._stopping = hurried, stopping
        self._halt_by: float | None = None

    def begun(self) -> None:
        self._check()

    def receive(self, message: Any) -> None:
        self._check()

    def on_stop(self) -> None:
        self._stop_from(0)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """Stop the children; the next supervisor starts its own."""
        self._stop_from(0)
        super().on_failure(exception_type, exception_value, traceback)

    def ask_to_stop(self, deadline: float) -> None:
        """Stop the children in reverse order by ``deadline``, then the supervisor; does not wait for it."""
        self._halt_by = deadline
        self._stopping.set()
        self.stop()

    def _check(self) -> None:
        now = time.monotonic()
        if now < self._due():
            self.wake_at(min(self._retry_at, now + _HURRIED_S))
            return
        dead = [at for at, child in enumerate(self._children) if self._is_dead(child)]
        if dead:
            self._stop_from(dead[0])
        if not dead or self._may_restart(dead, now):
            self._start_missing()
        if not self._retry_at:
            watched = any(child.unstable for child in self._children)
            self.wake_at(time.monotonic() + _CHECK_S if watched else None)

    def _due(self) -> float:
        """Return when to try again what failed; 0 when nothing did."""
        if self._retry_at and self._hurried():
            return min(self._retry_at, self._failed_at + _HURRIED_S)
        return self._retry_at

    def _is_dead(self, child: Child) -> bool:
        handle = self._running.get(child.name)
        return handle is not None and not handle.is_alive()

    def _may_restart(self, dead: Sequence[int], now: float) -> bool:
        """Count the deaths; there may be no restart now when there were too many, which is reported."""
        config, first = self._config, self._children[dead[0]]
        self._restarts.extend([now] * len(dead))
        if not restarts_exceeded(
            self._restarts, now, max_restarts=config.max_restarts, max_seconds=config.max_seconds
        ):
            self._working = False
            self._reports.restarting(len(dead))
            return True
        deaths = len(self._restarts)
        self._restarts.clear()
        self._failed(
            first.unstable(deaths, config.max_seconds)
            if first.unstable is not None
            else StartError(f"{first.name} does not stay up", "see the log")
        )
        return False

    def _start_missing(self) -> None:
        try:
            if not self._children:
                self._children = list(self._list_children())
            for child in self._children:
                if self._stopping.is_set():
                    return
                if child.name not in self._running:
                    self._running[child.name] = child.start()
        except StartError as error:
            self._failed(error)
            return
        self._retry_at = 0.0
        if not self._working:  # reported once: in between, the pool may have set the target's state
            self._working = True
            self._reports.working()

    def _failed(self, error: StartError) -> None:
        self._working = False
        self._failed_at = time.monotonic()
        self._retry_at = self._failed_at + self._config.slow_restart_s
        self.wake_at(self._failed_at + min(self._config.slow_restart_s, _HURRIED_S))
        if not self._stopping.is_set():
            self._reports.down(error)

    def _stop_from(self, first: int) -> None:
        for child in reversed(self._children[first:]):
            handle = self._running.pop(child.name, None)
            if handle is not None:
                handle.halt(self._grace_s())

    def _grace_s(self) -> float:
        """Return how long a child may take to stop, in seconds: the rest of the time-out, at most five."""
        if self._halt_by is None:
            return _HALT_S
        return max(_LEAST_HALT_S, min(_HALT_S, self._halt_by - time.monotonic()))
