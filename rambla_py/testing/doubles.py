"""Doubles for an app: every backend scripted, everything that arrives kept by channel."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import msgspec

from rambla_py._internal.durations import time_limit
from rambla_py.app import Rambla
from rambla_py.config import Config
from rambla_py.config.schema import ChannelConfig, ServiceConfig
from rambla_py.errors import NotRunningError
from rambla_py.handler import Handler
from rambla_py.outbox.memory import MemoryTables
from rambla_py.policy import Backoff
from rambla_py.runtime.doubling import replacing_all
from rambla_py.runtime.lifecycle import Lifecycle
from rambla_py.runtime.process_hooks import registered
from rambla_py.testing.scripted import ScriptedConnection, ScriptedHandler
from rambla_py.testing.steps import Arrival, Script, Step, named

__all__ = ["Capture", "all_doubled", "doubled", "on_doubles"]

_SETTLE_S = 5.0
_AT_ONCE = Backoff(initial_s=0.0, max_s=0.0)


class Capture:
    """What was published to apps on doubles, by channel, and how their backends answer.

    Apps with channels of the same service and name share what is kept there. Looking waits first until all
    that was accepted has its outcome, for at most five seconds. May be used from any thread. Messages of
    durable channels are in ``outbox``, in memory, until they have their outcome.
    """

    def __init__(self) -> None:
        self._connections: dict[tuple[str, str], ScriptedConnection] = {}
        self.outbox = MemoryTables()
        self.settle: Callable[[float], Any] = lambda timeout_s: None

    def connection_for(self, service: str, channel: str) -> ScriptedConnection:
        """Return the connection of a double, always the same one for a service and a channel."""
        return self._connections.setdefault((service, channel), ScriptedConnection())

    def __getitem__(self, channel: str) -> list[Arrival]:
        """Return what arrived at a channel; raises ``KeyError`` for one that is on no double."""
        return self.arrived(channel)

    def __len__(self) -> int:
        return len(self.arrived())

    def __repr__(self) -> str:
        counts = {f"{service}.{channel}": len(kept.arrived()) for (service, channel), kept in self._each()}
        return f"<Capture {counts}>"

    def arrived(
        self, channel: str | None = None, *, service: str | None = None, settle: bool = True
    ) -> list[Arrival]:
        """Return what arrived, in order for each target: ``payload``, ``body``, ``id``, ``key``, ``headers``.

        A message of a channel of several services arrived at each of them: ``service`` chooses one. Without
        ``settle`` it does not wait. Raises ``KeyError`` for a channel or a service that is on no double.
        """
        chosen = self._chosen(channel, service)
        if settle:
            self.settle(_SETTLE_S)
        return [arrival for script in chosen for arrival in script.arrived()]

    def payloads(self, channel: str | None = None, *, service: str | None = None) -> list[Any]:
        """Return the payloads of what arrived, as they were published."""
        return [arrival.payload for arrival in self.arrived(channel, service=service)]

    def plan(
        self,
        step: Step,
        channel: str | None = None,
        *,
        service: str | None = None,
        where: Callable[[Any], bool] | None = None,
        attempt: int | None = None,
        times: int | None = 1,
    ) -> None:
        """Let ``step`` happen to the next ``times`` attempts that fit, for each target chosen.

        ``where`` and ``attempt`` are those of ``Script.plan``; raises ``KeyError`` as ``arrived`` does.
        """
        for script in self._chosen(channel, service):
            script.plan(step, where=where, attempt=attempt, times=times)

    def script(self, channel: str, *, service: str | None = None) -> Script:
        """Return the script of one target; raises ``KeyError`` when there is none, or more than one."""
        chosen = self._chosen(channel, service)
        if len(chosen) > 1:
            raise KeyError(f"channel {channel!r} has several services; say which one with service=")
        return chosen[0]

    def release(self) -> None:
        """Let everything that hangs continue."""
        for _, script in self._each():
            script.release()

    def _each(self) -> list[tuple[tuple[str, str], Script]]:
        return [(target, named.of(connection)) for target, connection in list(self._connections.items())]

    def _chosen(self, channel: str | None, service: str | None) -> list[Script]:
        chosen = [
            script
            for (its_service, its_channel), script in self._each()
            if channel in (None, its_channel) and service in (None, its_service)
        ]
        if not chosen and (channel, service) != (None, None):
            known = ", ".join(f"{service}.{channel}" for service, channel in self._connections) or "none"
            raise KeyError(f"{service or '*'}.{channel or '*'} is on no double; on doubles are: {known}")
        return chosen


def on_doubles(
    config: Config, *, real: Collection[str] = (), backoff: bool = False
) -> tuple[Config, Capture]:
    """Return a configuration whose handlers are scripted, and the capture of what arrives at them.

    Channels, options and everything that is checked stay what they are; connections are not opened, and
    external servers and callbacks that are methods of a handler are left out. The services in ``real`` stay
    as they are. Without ``backoff`` a retry follows at once.

    >>> import rambla_py as rambla
    >>> table = {"redis": {"connections": {"main": {}}, "channels": {"orders": {}}}}
    >>> config, capture = on_doubles(rambla.load_config(table))
    >>> with rambla.Rambla(config) as app:
    ...     _ = app.publish("orders", {"id": 42}).result(timeout_s=5)
    >>> capture.payloads("orders")
    [{'id': 42}]
    """
    capture = Capture()
    return _replaced(config, capture, real, backoff=backoff), capture


@contextmanager
def doubled(
    app: Rambla, *, real: Collection[str] = (), backoff: bool = False, timeout_s: float | None = 5.0
) -> Iterator[Capture]:
    """Run one app on doubles inside the ``with``, wherever it is started, and return the capture.

    An app that runs already is stopped, within ``timeout_s`` seconds, and started on doubles; afterwards it
    runs as before. ``real`` and ``backoff`` are those of ``on_doubles``.

    >>> import rambla_py as rambla
    >>> app = rambla.Rambla({"redis": {"connections": {"main": {}}, "channels": {"orders": {}}}})
    >>> with doubled(app) as capture, app:
    ...     _ = app.publish("orders", {"id": 42})
    ...     capture.payloads("orders")
    [{'id': 42}]
    """
    lifecycle, capture = app._lifecycle, Capture()

    def replace(config: Config) -> Config:
        return _replaced(config, capture, real, backoff=backoff)

    @contextmanager
    def replacing() -> Iterator[None]:
        former, lifecycle.replacement = lifecycle.replacement, replace
        try:
            yield
        finally:
            lifecycle.replacement = former

    with _running_on_doubles(replacing, lambda: [lifecycle], capture, time_limit(timeout_s)):
        yield capture


@contextmanager
def all_doubled(
    *, real: Collection[str] = (), backoff: bool = False, timeout_s: float | None = 5.0
) -> Iterator[Capture]:
    """Run every app of the process on doubles inside the ``with``, those that run already included."""
    capture = Capture()

    def replacing() -> AbstractContextManager[None]:
        return replacing_all(lambda config: _replaced(config, capture, real, backoff=backoff))

    def lifecycles() -> list[Lifecycle]:
        return [listener for listener in registered() if isinstance(listener, Lifecycle)]

    with _running_on_doubles(replacing, lifecycles, capture, time_limit(timeout_s)):
        yield capture


@contextmanager
def _running_on_doubles(
    replacing: Callable[[], AbstractContextManager[None]],
    lifecycles: Callable[[], list[Lifecycle]],
    capture: Capture,
    limit_s: float,
) -> Iterator[None]:
    """Restart what runs on doubles; afterwards stop what runs, and start again what ran before."""
    before = still = _stopped(lifecycles(), limit_s)
    try:
        with replacing():
            for lifecycle in before:
                lifecycle.start()
            capture.settle = lambda timeout_s: _flush(lifecycles(), timeout_s)
            try:
                yield
            finally:
                capture.release()
                still = _stopped(lifecycles(), limit_s)
    finally:
        for lifecycle in still:
            if lifecycle in before:
                lifecycle.start()


def _stopped(lifecycles: list[Lifecycle], limit_s: float) -> list[Lifecycle]:
    """Stop those that run, and return them."""
    running = [lifecycle for lifecycle in lifecycles if lifecycle.state == "running"]
    for lifecycle in running:
        lifecycle.stop(limit_s)
    return running


def _flush(lifecycles: list[Lifecycle], timeout_s: float) -> None:
    """Wait until everything has its outcome."""
    until = time.monotonic() + timeout_s
    for lifecycle in lifecycles:
        with suppress(NotRunningError):  # stopped by the test: then everything has its outcome
            lifecycle.running().flush().wait(max(until - time.monotonic(), 0.0), 0.0)


def _replaced(config: Config, capture: Capture, real: Collection[str], *, backoff: bool) -> Config:
    services = {
        name: service if name in real else _doubled(service, capture, backoff=backoff)
        for name, service in config.services.items()
    }
    rambla = config.rambla
    if rambla.outbox is not None:
        outbox = msgspec.structs.replace(rambla.outbox, url=capture.outbox.url)
        rambla = msgspec.structs.replace(rambla, outbox=outbox)
    return msgspec.structs.replace(config, services=services, rambla=rambla)


def _doubled(service: ServiceConfig, capture: Capture, *, backoff: bool) -> ServiceConfig:
    handler = _double_of(service.handler)
    channels: dict[str, ChannelConfig] = {}
    for name, channel in service.channels.items():
        settings = capture.connection_for(service.name, name)
        policy = channel.policy if backoff else msgspec.structs.replace(channel.policy, backoff=_AT_ONCE)
        channels[name] = msgspec.structs.replace(channel, handler=handler, settings=settings, policy=policy)
    connections = {name: ScriptedConnection() for name in service.connections}
    return msgspec.structs.replace(service, handler=handler, connections=connections, channels=channels)


def _double_of(handler: type[Handler]) -> type[Handler]:
    """Return a scripted handler that takes the options of another one."""
    members = {
        "__doc__": f"Stands for ``{handler.__name__}``, and does as its script says.",
        "Options": handler.Options,
        "event_prefix": handler.event_prefix,
    }
    return type(f"{handler.__name__}Double", (ScriptedHandler,), members)
