"""Start and stop of an app in its process, and its restart in a forked child."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Literal, Protocol

from rambla_py._internal.waiting import wait, wait_async
from rambla_py.config import Config
from rambla_py.errors import AlreadyRunningError, NotRunningError
from rambla_py.runtime.doubling import Replacement, replaced
from rambla_py.runtime.fan_out import FanOut
from rambla_py.runtime.process_hooks import hook_multiprocessing, register, unregister
from rambla_py.runtime.stopping import Shutdown
from rambla_py.runtime.supervision.plan import make_plan
from rambla_py.runtime.system import System
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.traced_path import FastPath, TracedPath
from rambla_py.telemetry.error_text import ErrorText
from rambla_py.telemetry.events import Event, EventObserver
from rambla_py.telemetry.observer import Observer
from rambla_py.telemetry.observers import Observers
from rambla_py.telemetry.tracing import Tracing

__all__ = ["AttachedOutbox", "Companion", "Lifecycle"]


class AttachedOutbox(Protocol):
    """The outbox of a system."""

    def start(self) -> None:
        """Open it, and begin to deliver what is in it; raises ``OutboxError``."""

    def close(self) -> None:
        """Write what is pending, and close it; what is not delivered stays there."""


class Companion(Protocol):
    """Something that lives with an app: it runs on the app's timer, and is reset in a forked child."""

    def run(self, now: float) -> float | None:
        """Do what is due, on the timer's thread; return when to run again, None for never.

        Called first when the app starts, and in a forked child with the first message.
        """

    def after_fork(self) -> None:
        """Reset in a forked child."""

    def stopped(self) -> None:
        """End what belongs to this run of the app: all of its messages have ended."""


Attach = Callable[[Config, Callable[[], list[Target]]], AttachedOutbox | None]
"""Returns the outbox of an app with durable targets, given what makes its targets."""

_FIRST_CONNECT_S = 1.0
_GRACE_S = 1.0
"""How long to wait for a stop beyond its time-out; it takes less unless a listener blocks its thread."""


class Lifecycle:
    """Starts and stops one app: its ``state``, and its ``system`` once it is started.

    ``started_at`` is the time of the last start, on the monotonic clock.

    ``fast_paths`` has, by name, the channels that accept a plain message in one step, once they have been
    used. It is empty while all messages must take the slow path: before the start, while a listener is
    attached, after the stop. It is always the same dictionary, so that publishers may keep a reference to it.
    ``replacement`` puts doubles in place of backends, from the next start on.
    """

    def __init__(self, config: Config, error_text: ErrorText, attach: Attach) -> None:
        self.state: Literal["not started", "running", "stopping", "stopped"] = "not started"
        self.system: System | None = None
        self.started_at: float | None = None
        self.fast_paths: dict[str, FastPath] = {}
        self._config, self._error_text, self._attach = config, error_text, attach
        self.outbox: AttachedOutbox | None = None
        self._observers = Observers()
        self._lock = threading.RLock()
        self._shutdown: Shutdown | None = None
        self._inherited: list[System] = []
        self._companions: tuple[Companion, ...] = ()
        self.replacement: Replacement | None = None

    def config_in_use(self) -> Config:
        """Return the configuration to run on: the app's own, or a test's replacement."""
        return replaced(self._config, self.replacement)

    def start(self) -> None:
        """Start; a second call does nothing. Raises ``AlreadyRunningError`` while it stops."""
        with self._lock:
            if self.state == "running":
                return
            if self.state == "stopping":
                raise AlreadyRunningError("the app is stopping; call stop() again to finish before start()")
            self._shutdown = None
            self.system = self._new_system(with_servers=True)
            self.state = "running"
        register(self)

    def stop(self, limit_s: float, *, at_exit: bool = False) -> None:
        """Deliver within ``limit_s``, drop the rest, and stop; ``at_exit`` takes over from a waiting stop.

        An exception in this thread interrupts it: the app stays ``stopping``, and its workers continue.
        """
        shutdown = self._begin_stop()
        if shutdown is None:
            return
        request = shutdown.request(time.monotonic() + limit_s, takes_over=at_exit)
        try:
            if at_exit and self.system is not None:
                self.system.work_here(shutdown.done)
            wait(shutdown.done, limit_s + _GRACE_S)
        finally:
            shutdown.withdraw(request)
        self._join()

    async def stop_async(self, limit_s: float) -> None:
        """Stop as ``stop`` does, without blocking the running loop; a cancellation interrupts it."""
        shutdown = self._begin_stop()
        if shutdown is None:
            return
        request = shutdown.request(time.monotonic() + limit_s)
        try:
            await wait_async(shutdown.done, limit_s + _GRACE_S)
        finally:
            shutdown.withdraw(request)
        self._join()

    def request_stop(self, limit_s: float) -> None:
        """Stop in the background, on threads that already run; for callers that must not block."""
        shutdown = self._begin_stop()
        if shutdown is not None:
            shutdown.request(time.monotonic() + limit_s)

    def running(self) -> System:
        """Return the running system; a forked child gets a new one. Raises ``NotRunningError``."""
        system = self.system
        if self.state == "running":
            return system if system is not None else self._start_in_child()
        raise NotRunningError(self.state)

    def targets(self) -> list[Target]:
        """Return the targets in the order of the configuration, also after the stop."""
        return [] if self.system is None else self.system.targets.every()

    def fast_path(self, name: str) -> FastPath | None:
        """Return the fast path of a name, made with its first message; None if there is none."""
        system, found = self.system, self.fast_paths.get(name)
        if found is None and system is not None and self.state == "running":
            targets = system.routes.get(name, ())
            if targets and all(target.plain for target in targets):
                return self._add_fast_path(system, name, targets)
        return found

    def known_targets(self) -> list[tuple[str, Target | None]]:
        """Return the names of the targets in the same order; with None for one that had no message yet."""
        return [] if self.system is None else self.system.targets.known()

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call an observer once a batch from now on; return a function that ends it."""
        return self._observers.observe(observer)

    def listen(self, listener: Callable[[Event], Any]) -> Callable[[], None]:
        """Call a listener with every event from now on; return a function that ends it."""
        stop = self._observers.observe(EventObserver(listener, self._error_text))
        self._clear_fast_paths()

        def end() -> None:
            stop()
            self._clear_fast_paths()

        return end

    @property
    def tracing(self) -> Tracing | None:
        """What traces the app; None unless it is traced."""
        return self._observers.tracing

    def trace(self, tracing: Tracing) -> Callable[[], None]:
        """Trace what is published from now on; return a function that ends it."""
        self._observers.tracing = tracing
        self._clear_fast_paths()

        def end() -> None:
            if self._observers.tracing is tracing:
                self._observers.tracing = None
                self._clear_fast_paths()

        return end

    def accompany(self, companion: Companion) -> Callable[[], None]:
        """Let something live with this app; return a function that ends it."""
        with self._lock:
            self._companions = (*self._companions, companion)
        self.wake_companion(companion, 0.0)

        def end() -> None:
            with self._lock:
                self._companions = tuple(one for one in self._companions if one is not companion)

        return end

    def wake_companion(self, companion: Companion, at: float) -> bool:
        """Run a companion at that time, on the monotonic clock, or sooner; False while no system runs."""
        system = self.system
        if system is None or self.state == "stopped" or companion not in self._companions:
            return False
        system.schedule(companion.run, at)
        return True

    # -- what happens to the process ------------------------------------------------------------------

    def wait_for_connects(self) -> None:
        """Wait until workers that have something to deliver are connected."""
        if self.system is not None and self.state == "running":
            self.system.wait_for_connects(min(_FIRST_CONNECT_S, self._config.rambla.exit_timeout_s))

    def stop_at_exit(self, *, at_once: bool) -> None:
        """Stop within ``exit_timeout_s``, or end what is left at once."""
        self.stop(0.0 if at_once else self._config.rambla.exit_timeout_s, at_exit=True)

    def after_fork(self) -> None:
        """Start without a system: the inherited one belongs to the parent."""
        self._lock = threading.RLock()
        self._shutdown = None
        self.fast_paths.clear()
        if self.state == "stopping":
            self.state = "stopped"
        if self.system is not None:
            self.outbox = None
            self.system.forked()
            # Kept alive, so that no finalizer touches sockets that the parent still uses.
            self._inherited.append(self.system)
            self.system = None
        for companion in self._companions:
            companion.after_fork()

    # -- internals ------------------------------------------------------------------------------------

    def _begin_stop(self) -> Shutdown | None:
        """Refuse new messages from now on; return the shutdown, or None if nothing runs."""
        with self._lock:
            if self.state not in ("running", "stopping"):
                return None
            self.state = "stopping"
            self.fast_paths.clear()
            if self.system is None:  # a forked child in which nothing was published
                self._ended()
            elif self._shutdown is None:
                self._shutdown = self.system.shutdown(self._ended)
            return self._shutdown

    def _ended(self) -> None:
        """Record the end. Runs on the timer's thread, without the lock: another thread may hold it."""
        outbox, self.outbox = self.outbox, None
        try:
            if outbox is not None:
                outbox.close()
            for companion in self._companions:
                companion.stopped()
        finally:
            self.state = "stopped"
            unregister(self)

    def _join(self) -> None:
        if self.system is not None and self.state == "stopped":
            self.system.join(_GRACE_S)

    def _start_in_child(self) -> System:
        """Start a system in a forked child, without the external servers, which run in the parent."""
        with self._lock:
            if self.system is None:
                self.system = self._new_system(with_servers=False)
            return self.system

    def _new_system(self, *, with_servers: bool) -> System:
        config = self.config_in_use()
        plan = make_plan(config)
        system = System(config, plan, self._observers, self._error_text, with_servers=with_servers)
        outbox = self._attach(config, system.targets.every)
        system.start()
        self.started_at = time.monotonic()
        if outbox is not None:
            self._start_outbox(system, outbox)
        for companion in self._companions:
            system.schedule(companion.run, 0.0)
        hook_multiprocessing()
        return system

    def _start_outbox(self, system: System, outbox: AttachedOutbox) -> None:
        try:
            outbox.start()
        except BaseException:
            shutdown = system.shutdown(lambda: None)
            shutdown.request(time.monotonic())
            wait(shutdown.done, _GRACE_S)
            raise
        self.outbox = outbox

    def _clear_fast_paths(self) -> None:
        """Let the next message of each name find out which path it takes."""
        with self._lock:
            self.fast_paths.clear()

    def _add_fast_path(self, system: System, name: str, targets: tuple[Target, ...]) -> FastPath | None:
        with self._lock:  # what attaches a listener or stops the app clears them under the same lock
            if self._observers.published or system is not self.system or self.state != "running":
                return None
            tracing = self._observers.tracing
            path: FastPath = targets[0].admission if len(targets) == 1 else FanOut(targets)
            found = self.fast_paths[name] = path if tracing is None else TracedPath(path, targets, tracing)
            return found
