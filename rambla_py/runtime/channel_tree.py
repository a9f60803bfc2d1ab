"""Running parts of one channel: its external servers, then its pool."""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections import deque
from typing import Any

from rambla_py.errors import HandlerError, StartError
from rambla_py.external_server import ChildSpec, Command
from rambla_py.runtime.delivery.pool import Pool
from rambla_py.runtime.supervision.external_servers import Running, begin, ended
from rambla_py.runtime.supervision.plan import ChannelPlan, external_servers
from rambla_py.runtime.supervision.supervisor import Child, Supervisor
from rambla_py.runtime.target.refusal import report_refusal
from rambla_py.runtime.target.target import Target
from rambla_py.telemetry.records import target_extra

__all__ = ["ChannelTree"]

log = logging.getLogger("rambla_py.supervisor")


class ChannelTree:
    """The running parts of one channel; only a channel with external servers has a supervisor thread.

    ``start`` starts the workers' threads from the calling thread, so that they already run when the
    interpreter shuts down: from Python 3.12 on, no thread can be started then. They begin to work once every
    external server is up.
    """

    def __init__(self, plan: ChannelPlan, target: Target, *, with_servers: bool) -> None:
        self._plan, self._target = plan, target
        self._supervised = with_servers and (bool(plan.servers) or plan.unknown is not None)
        self._pool = Pool(target)
        self._supervisor: Supervisor | None = None
        self._unsupervised: deque[None] = deque([None])
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start what does not run yet; from any thread."""
        self._target.timer.watch()  # first: if this thread is interrupted, the timer starts the rest
        self._pool.start()
        if not self._supervised:
            self._pool.open()
        elif self._unsupervised:
            self._supervise()

    @property
    def pool(self) -> Pool:
        """The workers of the channel."""
        return self._pool

    def ask_to_stop(self, deadline: float) -> None:
        """Ask the workers, then the servers, to stop by ``deadline``, without waiting for them."""
        self._stopping.set()
        supervisor = self._supervisor
        if supervisor is None:
            self._pool.ask_to_stop()
        else:
            supervisor.ask_to_stop(deadline)

    def halt(self, deadline: float) -> bool:
        """Stop everything in reverse order; return whether it ended by ``deadline``."""
        self.ask_to_stop(deadline)
        supervisor = self._supervisor
        ended = supervisor is None or supervisor.halt(max(0.0, deadline - time.monotonic()))
        # If the supervisor was still starting the servers, the pool has not been opened.
        return self._pool.halt(max(0.0, deadline - time.monotonic())) and ended

    def _supervise(self) -> None:
        try:
            self._unsupervised.pop()
        except IndexError:  # another thread took it first
            return
        self._target.state.connecting("waiting for an external server", by="supervisor")
        self._supervisor = self._make_supervisor().begin()

    def _supervisor_died(self, error: BaseException) -> None:
        if not self._stopping.is_set():
            self._supervisor = self._make_supervisor().begin()

    def _make_supervisor(self) -> Supervisor:
        target = self._target
        return Supervisor(
            self._plan.config,
            self._children,
            _Reports(target),
            self._supervisor_died,
            hurried=lambda: target.state.stop_at is not None,
            stopping=self._stopping,
        )

    def _children(self) -> list[Child]:
        """Return what the supervisor starts; raises ``StartError`` while the handler cannot be made."""
        servers = self._plan.servers
        if self._plan.unknown is not None:
            try:
                servers = external_servers(self._plan.config)
            except HandlerError as error:
                raise StartError(error.reason, "correct external_servers") from error
        handles: dict[str, Any] = {}

        def opened() -> Pool:
            self._target.servers = dict(handles)
            self._pool.open()
            return self._pool

        return [*(self._server(server, handles) for server in servers), Child("pool", opened)]

    def _server(self, server: ChildSpec | Command, handles: dict[str, Any]) -> Child:
        def start() -> _Server:
            running = begin(server, self._stopping, target_extra(self._target.config))
            handles[server.id] = running.handle
            return _Server(running)

        return Child(f"external server {server.id!r}", start, functools.partial(ended, server))


class _Reports:
    """What happens to the children of a channel, recorded in its target."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._down_since: float | None = None

    def down(self, error: StartError) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
        self._target.state.down(self._target.error_text(error), by="supervisor")
        report_refusal(self._target, error)

    def working(self) -> None:
        target = self._target
        if self._down_since is not None:
            log.info(
                "%s: its external servers run again after %.1f s; %d messages wait",
                target.config.name,
                time.monotonic() - self._down_since,
                len(target.mailbox),
                extra=target_extra(target.config),
            )
            self._down_since = None
        target.state.recovered(by="supervisor")

    def restarting(self, number: int) -> None:
        self._target.counters.restart(number)
        self._target.state.connecting("an external server is restarted", by="supervisor")


class _Server:
    """An external server as a supervisor's child."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def is_alive(self) -> bool:
        return self._running.alive()

    def halt(self, timeout_s: float) -> bool:
        self._running.stop(timeout_s)
        return True
