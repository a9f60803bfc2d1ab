"""This module starts the supervision tree that a plan describes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from rambla_py.actors.actor import OnDeath
from rambla_py.actors.external import Running, begin
from rambla_py.actors.plan import ChannelPlan, Plan, ServicePlan
from rambla_py.actors.pool import Pool
from rambla_py.actors.supervisor import Child, Supervisor
from rambla_py.actors.target import Target
from rambla_py.actors.timer import Timer, Watch
from rambla_py.errors import describe
from rambla_py.handler import ChildSpec, Command
from rambla_py.policy import restarts_exceeded

__all__ = ["Tree"]

log = logging.getLogger("rambla_py.supervisor")

_ROOT_RESTARTS = 10

TargetKey = tuple[str, str]


class _Server:
    """An external server as a supervisor's child."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def is_alive(self) -> bool:
        return self._running.alive()

    def halt(self, timeout_s: float) -> bool:
        self._running.stop()
        return True


class Tree:
    """The live tree: root, services, channels; each channel its servers, then its pool.

    ``with_servers`` is False in a forked child, whose servers run in the parent.
    """

    def __init__(
        self, plan: Plan, targets: Mapping[TargetKey, Target], watch: Watch, *, with_servers: bool = True
    ) -> None:
        self._targets, self._watch, self._with_servers = targets, watch, with_servers
        # Which lazy channels were asked for; kept here, so that a restarted supervisor knows it too.
        self._wanted: dict[str, set[str]] = {service.name: set() for service in plan.services}
        self._services: dict[str, Supervisor] = {}
        children = [Child("timer", self._start_timer)]
        children += [Child(f"service {service.name}", self._service(service)) for service in plan.services]
        self._root_children, self._strategy = children, plan.strategy
        self._deaths: deque[float] = deque(maxlen=_ROOT_RESTARTS + 1)
        self._stopping = False
        self._root = self._make_root()

    def start(self) -> None:
        """Start the supervisors, the timer, and the channels that are not lazy."""
        self._root.begin()

    def _make_root(self) -> Supervisor:
        return Supervisor("root", self._root_children, self._root_died, strategy=self._strategy)

    def _root_died(self, error: BaseException) -> None:
        """Put a new root in the place of one that died: there is nobody above it to do so."""
        now = time.monotonic()
        self._deaths.append(now)
        too_many = restarts_exceeded(self._deaths, now, max_restarts=_ROOT_RESTARTS, max_seconds=60.0)
        if self._stopping or too_many:
            log.critical("the root supervisor is gone: %s", describe(error))
            return
        self._root = self._make_root()
        self._root.begin()

    def ensure(self, service: str, channel: str) -> None:
        """Start a lazy channel; from any thread, also before its service has come up."""
        self._wanted[service].add(channel)
        supervisor = self._services.get(service)
        if supervisor is not None:
            supervisor.wake()

    def stop(self, timeout_s: float) -> bool:
        """Stop everything in reverse order; say whether it ended in time."""
        self._stopping = True
        return self._root.halt(timeout_s)

    def _start_timer(self, on_death: OnDeath) -> Timer:
        return Timer(self._watch, on_death).begin()

    def _service(self, plan: ServicePlan) -> Callable[[OnDeath], Supervisor]:
        children = [
            Child(channel.config.channel, self._channel(channel), lazy=channel.config.lazy)
            for channel in plan.channels
        ]

        def start(on_death: OnDeath) -> Supervisor:
            wanted = self._wanted[plan.name]
            supervisor = Supervisor(plan.name, children, on_death, strategy=plan.strategy, wanted=wanted)
            # Known before its first look: who asks for a channel now is seen by that look, or wakes it.
            self._services[plan.name] = supervisor
            return supervisor.begin()

        return start

    def _channel(self, plan: ChannelPlan) -> Callable[[OnDeath], Supervisor]:
        config = plan.config
        target = self._targets[config.service, config.channel]

        def set_state(state: str | None) -> None:
            target.note = state

        def start(on_death: OnDeath) -> Supervisor:
            stopping = threading.Event()
            servers = plan.servers if self._with_servers else ()
            children = [_server_child(at, server, stopping) for at, server in enumerate(servers)]
            children.append(Child("pool", lambda died: Pool(target, died).begin()))
            return Supervisor(
                config.name,
                children,
                on_death,
                strategy=plan.strategy,
                max_restarts=config.max_restarts,
                max_seconds=config.max_seconds,
                slow_restart_s=config.slow_restart_s,
                on_state=set_state,
                stopping=stopping,
            ).begin()

        return start


def _server_child(at: int, server: ChildSpec | Command, stopping: threading.Event) -> Child:
    name = f"external server {at}"
    return Child(name, lambda on_death: _Server(begin(server, stopping)), watched=True)
