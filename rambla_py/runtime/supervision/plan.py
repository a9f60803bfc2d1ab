"""Supervision tree as data, built from the configuration before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from rambla_py.config.schema import ChannelConfig, Config
from rambla_py.errors import StartError, describe
from rambla_py.external_server import ChildSpec, Command
from rambla_py.handler import Handler
from rambla_py.runtime.supervision.external_servers import specs_of

__all__ = ["ChannelPlan", "Plan", "ServicePlan", "external_servers", "make_handler", "make_plan"]

Strategy = Literal["one_for_one", "rest_for_one"]


class ChannelPlan(msgspec.Struct, frozen=True):
    """What runs for one channel, in start order: external servers, then the pool of workers."""

    config: ChannelConfig
    servers: tuple[ChildSpec | Command, ...] = ()
    strategy: Strategy = "rest_for_one"
    unknown: str | None = None
    """Why the servers are not known: the handler that lists them could not be made."""

    @property
    def server_names(self) -> list[str]:
        """The servers' names for display."""
        return [server.id for server in self.servers]


class ServicePlan(msgspec.Struct, frozen=True):
    """The channels of one service."""

    name: str
    handler_name: str
    channels: tuple[ChannelPlan, ...]
    strategy: Strategy = "one_for_one"


class Plan(msgspec.Struct, frozen=True):
    """The whole tree. ``str`` draws it; ``as_data`` returns it as plain values.

    >>> from rambla_py.config import load_config
    >>> table = {"null": {"connections": {"here": {}}, "channels": {"demo": {"connection": "here"}}}}
    >>> print(make_plan(load_config(table)))
    rambla (one_for_one)
    └── null: NullHandler (one_for_one)
        └── demo (rest_for_one)
            └── pool: 1 worker, lazy, connection 'here'; at most once, to nowhere: every message is discarded
    """

    services: tuple[ServicePlan, ...]
    strategy: Strategy = "one_for_one"

    def __str__(self) -> str:
        return "\n".join([f"rambla ({self.strategy})", *_branches([_service(s) for s in self.services])])

    def as_data(self) -> dict[str, Any]:
        """Return the tree as dicts and lists, for JSON."""
        return {"strategy": self.strategy, "services": [_service_data(s) for s in self.services]}


def make_plan(config: Config) -> Plan:
    """Return the tree for a configuration.

    Calls ``external_servers`` of each channel's handler, on a temporary instance. Raises ``HandlerError``
    if that fails; if the handler cannot be made, it is called again at the start.
    """
    return Plan(
        tuple(
            ServicePlan(
                service.name,
                service.handler.__name__,
                tuple(_channel_plan(channel) for channel in service.channels.values()),
            )
            for service in config.services.values()
        )
    )


def make_handler(config: ChannelConfig, servers: Mapping[str, Any] | None = None) -> Handler:
    """Return a new instance of a channel's handler, given the handles of its external servers.

    Raises ``StartError`` when its ``__init__`` raises.
    """
    kind = config.handler
    try:
        handler = kind(
            config.settings, channel=config.channel, service=config.service, options=config.options
        )
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # user code
        reason = f"{kind.__name__}.__init__ raised {describe(error)}"
        raise StartError(reason, "correct it, or what it needs") from error
    handler.servers = servers or {}
    return handler


def external_servers(config: ChannelConfig) -> tuple[ChildSpec | Command, ...]:
    """Return the external servers of a channel; raises ``HandlerError`` and ``StartError``."""
    if config.handler.external_servers is Handler.external_servers:
        return ()
    return specs_of(make_handler(config), config)


def _channel_plan(config: ChannelConfig) -> ChannelPlan:
    try:
        return ChannelPlan(config, external_servers(config))
    except StartError as error:
        # Without the text, which may hold a secret: a plan is shown as it is.
        return ChannelPlan(
            config, unknown=f"{config.handler.__name__} raised {type(error.__cause__).__name__}"
        )


_Node = tuple[str, list[Any]]


def _service(plan: ServicePlan) -> _Node:
    return f"{plan.name}: {plan.handler_name} ({plan.strategy})", [_channel(c) for c in plan.channels]


def _channel(plan: ChannelPlan) -> _Node:
    servers: list[_Node] = [(f"external server: {name}", []) for name in plan.server_names]
    if plan.unknown is not None:
        servers = [(f"external servers: not known, {plan.unknown}", [])]
    return f"{plan.config.channel} ({plan.strategy})", [*servers, (_pool(plan.config), [])]


def _pool(config: ChannelConfig) -> str:
    workers = "1 worker" if config.count == 1 else f"{config.count} workers"
    start = "lazy" if config.lazy else "at once"
    off = "" if config.enabled else " (disabled)"
    return f"pool: {workers}, {start}, connection {config.connection!r}{off}; {config.handler.guarantee}"


def _branches(nodes: list[_Node]) -> Iterator[str]:
    for at, (label, children) in enumerate(nodes):
        last = at == len(nodes) - 1
        yield ("└── " if last else "├── ") + label
        for line in _branches(children):
            yield ("    " if last else "│   ") + line


def _service_data(plan: ServicePlan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "handler": plan.handler_name,
        "strategy": plan.strategy,
        "channels": [_channel_data(channel) for channel in plan.channels],
    }


def _channel_data(plan: ChannelPlan) -> dict[str, Any]:
    config = plan.config
    return {
        "name": config.channel,
        "strategy": plan.strategy,
        "external_servers": plan.server_names,
        "pool": {
            "workers": config.count,
            "lazy": config.lazy,
            "connection": config.connection,
            "enabled": config.enabled,
            "guarantee": config.handler.guarantee,
        },
    }
