"""This module starts and stops what an app runs in its process, and starts it anew in a forked child."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from rambla_py.actors.looking import audit_of
from rambla_py.actors.plan import make_plan
from rambla_py.actors.system import System
from rambla_py.actors.target import Target
from rambla_py.config import Config
from rambla_py.errors import NotRunningError
from rambla_py.process import hook_multiprocessing, move_in, move_out
from rambla_py.telemetry.events import Event, Events

__all__ = ["Life"]

log = logging.getLogger("rambla_py")

_FIRST_CONNECT_S = 1.0


class Life:
    """The life of one app: its ``state``, and its ``system`` once it was started.

    ``hot`` names the channels that one plain message reaches in one step. It is empty whenever all have to
    take the longer way: before the start, while somebody listens, after the stop. It is always the same
    dictionary, so that a publisher may hold it.
    """

    def __init__(self, config: Config, redact: Callable[[str], str]) -> None:
        self.state: Literal["not started", "running", "stopping", "stopped"] = "not started"
        self.system: System | None = None
        self.hot: dict[str, Target] = {}
        self._config, self._redact = config, redact
        self._events = Events()
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._stopped.set()
        self._inherited: list[System] = []

    def start(self) -> None:
        """Start; twice is once."""
        with self._lock:
            if self.state == "running":
                return
            self.system = self._started(with_servers=True)
            self.state = "running"
            self._warm()
        move_in(self)

    def stop(self, timeout_s: float) -> None:
        """Deliver what can be within ``timeout_s``, drop the rest, and end; whoever comes second waits."""
        with self._lock:
            system, first = self.system, self.state == "running"
            if first:
                self.state = "stopping"
                self.hot.clear()
                self._stopped.clear()
        if not first:
            self._stopped.wait(timeout_s)
            return
        try:
            if system is not None:
                system.stop(time.monotonic() + timeout_s)
        finally:
            self.state = "stopped"
            move_out(self)
            self._stopped.set()

    def running(self) -> System:
        """Return the live system, a new one in a forked child; raises ``NotRunningError``."""
        system = self.system
        if self.state == "running":
            return system if system is not None else self._again()
        raise NotRunningError(self.state)

    def targets(self) -> list[Target]:
        """Return the targets in config order, those of an app that was stopped included."""
        return [] if self.system is None else list(self.system.targets.values())

    def listen(self, listener: Callable[[Event], Any]) -> Callable[[], None]:
        """Tell a listener of every event from now on; returns a function that ends it."""
        stop = self._events.listen(listener)
        self._warm()

        def end() -> None:
            stop()
            self._warm()

        return end

    # -- what happens to the process ------------------------------------------------------------------

    def settle_in(self) -> None:
        """Let workers that have something to deliver connect first."""
        if self.system is not None and self.state == "running":
            self.system.settle_in(min(_FIRST_CONNECT_S, self._config.rambla.exit_timeout_s))

    def stop_at_exit(self) -> None:
        """Stop, and say what that lost."""
        before = self._undelivered()
        self.stop(self._config.rambla.exit_timeout_s)
        left = self._undelivered() - before
        if left:
            log.warning("the interpreter ended before stop(): %d messages were not delivered", left)

    def after_fork(self) -> None:
        """Begin with nothing: what ran is the parent's."""
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._stopped.set()
        self.hot.clear()
        if self.system is not None:
            self.system.forked()
            # Kept, so that no finalizer touches the sockets that the parent goes on using.
            self._inherited.append(self.system)
            self.system = None

    # -- inside ---------------------------------------------------------------------------------------

    def _again(self) -> System:
        """Give a forked child pools of its own; the external servers are its parent's."""
        with self._lock:
            if self.system is None:
                self.system = self._started(with_servers=False)
                self._warm()
            return self.system

    def _started(self, *, with_servers: bool) -> System:
        plan = make_plan(self._config)
        system = System(self._config, plan, self._events, self._redact, with_servers=with_servers)
        system.start()
        hook_multiprocessing()
        return system

    def _warm(self) -> None:
        """Let plain messages take the short way where nobody needs them to take the longer one."""
        with self._lock:
            self.hot.clear()
            if self.system is None or self.state != "running" or self._events.listeners:
                return
            for name, targets in self.system.routes.items():
                if len(targets) == 1 and targets[0].plain:
                    self.hot[name] = targets[0]

    def _undelivered(self) -> int:
        audits = [audit_of(target) for target in self.targets()]
        return sum(audit.dropped + audit.unknown for audit in audits)
