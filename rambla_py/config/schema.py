"""This module is the shape of a checked configuration: plain frozen data that the rest builds on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rambla_py.handler import Handler
from rambla_py.policy import Policy

__all__ = ["ChannelConfig", "ChannelSettings", "Config", "RamblaSettings", "ServiceConfig"]


_Bytes = Annotated[int, Meta(ge=1)]
_Count = Annotated[int, Meta(ge=0)]


class ChannelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every channel's table may hold beside ``connection`` and ``options``."""

    count: Annotated[int, Meta(ge=1, description="workers")] = 1
    lazy: Annotated[bool, Meta(description="start workers at the first publish, not with the app")] = True
    batch_size: Annotated[int, Meta(ge=1, description="most messages in a batch")] = 500
    batch_bytes: Annotated[_Bytes | None, Meta(description="most bytes in a batch")] = None
    batch_timeout_s: Annotated[float, Meta(ge=0, description="wait this long for a batch to fill")] = 0.0
    max_in_flight: Annotated[int, Meta(ge=1, description="most unsettled messages of a worker")] = 2_000
    max_pending: Annotated[int, Meta(ge=1, description="most waiting messages")] = 10_000
    overflow: Annotated[
        Literal["block", "raise", "drop_oldest", "drop_newest"],
        Meta(description="what publish does when max_pending messages wait"),
    ] = "block"
    publish_timeout_s: Annotated[float, Meta(ge=0, description="how long publish may wait for room")] = 30.0
    attempt_timeout_s: Annotated[float, Meta(gt=0, description="bound of one attempt")] = 30.0
    on_unknown: Annotated[
        Literal["retry", "report"], Meta(description="what follows a loss between the write and the answer")
    ] = "retry"
    rate_limit: Annotated[str | None, Meta(description='attempts a second, as "100/s"')] = None
    fallback: Annotated[str | None, Meta(description="the channel that takes fatal messages")] = None
    durable: Annotated[bool, Meta(description="keep messages in the outbox until their outcome")] = False
    envelope: Annotated[
        bool, Meta(description='read {"message": ..., option: ...} as payload and options')
    ] = True
    max_restarts: Annotated[int, Meta(ge=0, description="restarts allowed within max_seconds")] = 10
    max_seconds: Annotated[float, Meta(gt=0, description="window of max_restarts")] = 60.0
    slow_restart_s: Annotated[
        float, Meta(gt=0, description="how often a channel that is down for its restarts is tried again")
    ] = 30.0
    max_rounds: Annotated[int, Meta(ge=0, description="rounds that on_fatal may ask for")] = 1
    enabled: Annotated[bool, Meta(description="false: accept and drop")] = True


class ChannelConfig(ChannelSettings, frozen=True, kw_only=True):
    """One (service, channel) pair with everything merged and checked."""

    service: str
    channel: str
    connection: str
    handler: type[Handler]
    settings: Any
    options: Any
    policy: Policy
    headers: dict[str, Any] | None = None
    rate_per_s: float | None = None

    @property
    def name(self) -> str:
        """``service.channel``, as errors and logs call it."""
        return f"{self.service}.{self.channel}"

    def __repr__(self) -> str:
        # The settings of a handler without a ``Connection`` are a plain dict, which may hold a password.
        return f"ChannelConfig({self.name}, connection={self.connection!r}, {self.handler.__name__})"


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One service: its handler class, its connections, its channels, in the order of the file."""

    name: str
    handler: type[Handler]
    handler_name: str
    connections: dict[str, Any]
    channels: dict[str, ChannelConfig]

    def __repr__(self) -> str:
        return f"ServiceConfig({self.name}, {self.handler_name}, channels={list(self.channels)})"


class RamblaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the table ``[rambla]`` may hold, beside ``include``."""

    options: dict[str, Any] = {}
    retries: Annotated[_Count | None, Meta(description="default retries of every channel")] = None
    exit_timeout_s: Annotated[
        float, Meta(ge=0, description="how long an exit without stop() may deliver")
    ] = 5.0
    enabled: Annotated[bool, Meta(description="false: accept, check and drop everything")] = True
    outbox: dict[str, Any] | None = None
    services: list[str] | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A checked configuration. Make one with ``load_config``; treat it as read-only.

    ``files`` are the files it came from, the first one first; ``secrets`` the texts that never show.
    """

    services: dict[str, ServiceConfig]
    rambla: RamblaSettings = RamblaSettings()
    files: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()

    def every_channel(self) -> list[ChannelConfig]:
        """Return the channels of all services, in the order of the file."""
        return [channel for service in self.services.values() for channel in service.channels.values()]

    def __repr__(self) -> str:
        channels = len(self.every_channel())
        return f"Config({len(self.services)} services, {channels} channels, files={list(self.files)})"
