"""This module puts an app on doubles: every backend scripted, all that arrives kept, by channel."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec

from rambla_py.config import Config
from rambla_py.config.schema import ChannelConfig, ServiceConfig
from rambla_py.handler import Handler
from rambla_py.policy import Backoff
from rambla_py.testing.scripted import ScriptedConnection, ScriptedHandler
from rambla_py.testing.steps import Arrival, Script, Step, named

__all__ = ["Capture", "on_doubles"]

_SETTLE_S = 5.0
_AT_ONCE = Backoff(initial_s=0.0, max_s=0.0)


class Capture:
    """What was published to an app on doubles, by channel, and what its backends are to do.

    Looking waits first until all that was accepted has its outcome, for at most five seconds. May be used
    from any thread.
    """

    def __init__(self, scripts: dict[tuple[str, str], Script]) -> None:
        self._scripts = scripts
        self.settle: Callable[[float], Any] = lambda timeout_s: None

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
        """Let go on whatever hangs."""
        for _, script in self._each():
            script.release()

    def _each(self) -> list[tuple[tuple[str, str], Script]]:
        return list(self._scripts.items())

    def _chosen(self, channel: str | None, service: str | None) -> list[Script]:
        chosen = [
            script
            for (its_service, its_channel), script in self._each()
            if channel in (None, its_channel) and service in (None, its_service)
        ]
        if not chosen and (channel, service) != (None, None):
            known = ", ".join(f"{service}.{channel}" for service, channel in self._scripts) or "none"
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
    scripts: dict[tuple[str, str], Script] = {}
    services = {
        name: service if name in real else _doubled(service, scripts, backoff=backoff)
        for name, service in config.services.items()
    }
    return msgspec.structs.replace(config, services=services), Capture(scripts)


def _doubled(
    service: ServiceConfig, scripts: dict[tuple[str, str], Script], *, backoff: bool
) -> ServiceConfig:
    handler = _double_of(service.handler)
    channels: dict[str, ChannelConfig] = {}
    for name, channel in service.channels.items():
        settings = ScriptedConnection()
        scripts[service.name, name] = named.of(settings)
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
