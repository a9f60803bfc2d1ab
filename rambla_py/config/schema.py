"""Checked configuration as frozen structs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, NoReturn

import msgspec
from msgspec import Meta

from rambla_py._internal.durations import duration
from rambla_py.handler import Handler, Secret
from rambla_py.policy import Policy

__all__ = [
    "ChannelConfig",
    "ChannelSettings",
    "Config",
    "OutboxSettings",
    "RamblaSettings",
    "ServiceConfig",
    "TelemetrySettings",
    "WebSettings",
]


_Bytes = Annotated[int, Meta(ge=1)]
_Count = Annotated[int, Meta(ge=0)]


def _not_pickled(config: object) -> NoReturn:
    """Refuse to pickle what may hold passwords."""
    raise TypeError(f"a {type(config).__name__} is not pickled; load the configuration in the other process")


def _itself(config: Any, memo: object) -> Any:
    """Return the object itself as its deep copy, because it is frozen."""
    return config


class ChannelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of every channel, beside ``connection`` and ``options``."""

    count: Annotated[int, Meta(ge=1, description="workers")] = 1
    lazy: Annotated[bool, Meta(description="start workers at the first publish, not with the app")] = True
    idle_timeout_s: Annotated[
        float, duration("time without messages after which lazy workers disconnect and end", gt=0)
    ] = 60.0
    batch_size: Annotated[int, Meta(ge=1, description="maximum number of messages in a batch")] = 500
    batch_bytes: Annotated[_Bytes | None, Meta(description="maximum number of bytes in a batch")] = None
    batch_ready: Annotated[
        int | None,
        Meta(ge=1, description="number of waiting messages that end the wait for a batch; batch_size"),
    ] = None
    batch_timeout_s: Annotated[float, duration("longest wait for a batch to fill")] = 0.0
    max_in_flight: Annotated[
        int, Meta(ge=1, description="unsettled messages of a worker, at most; never splits a batch")
    ] = 2_000
    max_pending: Annotated[int, Meta(ge=1, description="maximum number of waiting messages")] = 10_000
    overflow: Annotated[
        Literal["block", "raise", "drop_oldest", "drop_newest"],
        Meta(description="what publish does when max_pending messages wait"),
    ] = "block"
    max_pending_key: Annotated[
        _Bytes | None,
        Meta(
            description="maximum for one key while its first message waits for a retry; half of max_pending"
        ),
    ] = None
    publish_timeout_s: Annotated[float, duration("longest wait of publish for room")] = 5.0
    max_reconnect_s: Annotated[
        float, duration("longest wait between two attempts to reach an unavailable backend", gt=0)
    ] = 3.0
    max_unavailable_s: Annotated[
        float,
        duration("time after which a message that is refused while others are delivered fails"),
    ] = 3_600.0
    attempt_timeout_s: Annotated[float, duration("time-out of one attempt", gt=0)] = 30.0
    on_unknown: Annotated[
        Literal["retry", "report"], Meta(description="what follows an attempt without an answer")
    ] = "retry"
    rate_limit: Annotated[str | None, Meta(description='limit of attempts, as "100/s"')] = None
    fallback: Annotated[
        str | tuple[str, ...] | None,
        Meta(description="channel, or channels in order, for messages that were not delivered"),
    ] = None
    fallback_on: Annotated[
        tuple[Literal["fatal", "expired", "dropped", "unknown"], ...],
        Meta(description="statuses after which a message goes to the fallback"),
    ] = ("fatal", "expired", "dropped")
    durable: Annotated[bool, Meta(description="keep messages in the outbox until their outcome")] = False
    dead_letters: Annotated[
        bool, Meta(description="keep messages that fail for good; a durable channel always does")
    ] = False
    envelope: Annotated[
        tuple[str, ...],
        Meta(description='options that {"message": ..., option: ...} may set; none: every dict is a payload'),
    ] = ()
    schema: Annotated[
        str | None,
        Meta(description='"module:Type" or a JSON Schema file: payloads that do not fit raise PayloadError'),
    ] = None
    snapshot: Annotated[
        bool, Meta(description="false: do not copy payloads; later changes to them may be sent")
    ] = True
    max_restarts: Annotated[int, Meta(ge=0, description="restarts allowed within max_seconds")] = 10
    max_seconds: Annotated[float, duration("window of max_restarts", gt=0)] = 60.0
    slow_restart_s: Annotated[float, duration("seconds between restarts of a channel that is down", gt=0)] = (
        30.0
    )
    max_rounds: Annotated[
        int, Meta(ge=0, description="maximum number of further rounds that on_fatal may request")
    ] = 1
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
    validate: Callable[[Any], None] | None = None

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """The fallback channels, in the order they are tried."""
        if self.fallback is None:
            return ()
        return (self.fallback,) if isinstance(self.fallback, str) else self.fallback

    @property
    def hands_over_at_stop(self) -> bool:
        """Whether messages that a stop leaves undelivered go to a fallback."""
        return bool(self.fallbacks) and "dropped" in self.fallback_on

    @property
    def name(self) -> str:
        """``service.channel``, as in errors and logs."""
        return f"{self.service}.{self.channel}"

    __reduce__ = _not_pickled
    __deepcopy__ = _itself

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

    __reduce__ = _not_pickled
    __deepcopy__ = _itself

    def __repr__(self) -> str:
        return f"ServiceConfig({self.name}, {self.handler_name}, channels={list(self.channels)})"


class OutboxSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the table ``[rambla.outbox]``."""

    url: Annotated[
        str | None,
        Meta(description='"sqlite:///file" or "postgresql://..."; rambla-outbox.db beside the first file'),
    ] = None
    deliver: Annotated[
        bool, Meta(description="false: only write; other processes or rambla relay deliver")
    ] = True
    dedup_window_s: Annotated[
        float, duration("time within which a given id is recognized after its message has ended")
    ] = 86_400.0
    max_bytes: Annotated[_Bytes | None, Meta(description="maximum size of what it holds")] = 1 << 30
    max_rows: Annotated[_Bytes | None, Meta(description="maximum number of rows")] = None
    max_age_s: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="age at which a message becomes a dead letter")
    ] = None
    poll_s: Annotated[float, duration("time between two looks for rows of other processes", gt=0)] = 1.0
    reserve_bytes: Annotated[
        _Count, Meta(description="SQLite: size of the reserve file that is given up when the disk is full")
    ] = 4 << 20
    busy_timeout_s: Annotated[float, duration("longest wait for another process that writes")] = 10.0
    allow_network_filesystem: Annotated[
        bool, Meta(description="SQLite: use a network or shared file system, where messages may get lost")
    ] = False


class TelemetrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the table ``[rambla.telemetry]``."""

    name: Annotated[
        str | None, Meta(description="name of the app: the label app of its metrics, the title of its page")
    ] = None
    metrics: Annotated[
        bool, Meta(description="false: keep no histograms of times; counters are always kept")
    ] = True
    traces: Annotated[bool, Meta(description="make spans of what is published, with OpenTelemetry")] = False
    create_spans: Annotated[
        bool, Meta(description="false: no spans of the calls of publish; the caller's context is passed on")
    ] = True
    max_spans: Annotated[
        int, Meta(ge=0, description="maximum number of create spans under one span of a caller")
    ] = 1_000


class WebSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the table ``[rambla.web]``."""

    enabled: Annotated[bool, Meta(description="serve the operations page with the app")] = False
    host: Annotated[
        str, Meta(min_length=1, description="address to listen on; other than loopback only with a token")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="port to listen on; 0: any free one")] = 8421
    socket: Annotated[
        str | None,
        Meta(description='Unix socket to listen on as well: a path, or "auto" for one a process'),
    ] = None
    token: Annotated[Secret | None, Meta(description="what requests must bring; also $RAMBLA_WEB_TOKEN")] = (
        None
    )
    allowed_hosts: Annotated[
        tuple[str, ...], Meta(description="further names under which the server may be addressed")
    ] = ()
    required: Annotated[
        tuple[str, ...], Meta(description="channels without which the process is not ready")
    ] = ()
    need: Annotated[
        Literal["accept", "connected"],
        Meta(description='what ready means for them: "accept" messages, or "connected" to the backend'),
    ] = "accept"
    tls_cert: Annotated[str | None, Meta(description="PEM file of the certificate, for HTTPS")] = None
    tls_key: Annotated[str | None, Meta(description="PEM file of its key")] = None


class RamblaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the table ``[rambla]``, beside ``include``."""

    options: dict[str, Any] = {}
    retries: Annotated[_Count | None, Meta(description="default retries of every channel")] = None
    exit_timeout_s: Annotated[float, duration("time for deliveries at an exit without stop()")] = 5.0
    result_timeout_s: Annotated[
        float,
        duration("limit of a wait without a time-out while no delivery ends"),
    ] = 60.0
    debug: Annotated[bool, Meta(description="keep the tracebacks of failed attempts")] = False
    log_payloads: Annotated[
        bool,
        Meta(description="for development: errors include the server's messages, which may quote payloads"),
    ] = False
    enabled: Annotated[bool, Meta(description="false: accept, check and drop everything")] = True
    outbox: OutboxSettings | None = None
    telemetry: TelemetrySettings = TelemetrySettings()
    web: WebSettings = WebSettings()
    analytics: Any = None
    """The table ``[rambla.analytics]`` as ``rambla_py.analytics.settings.AnalyticsSettings``, or None."""
    services: list[str] | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A checked configuration, created by ``load_config``; treat it as read-only.

    ``files`` are the files it came from, starting with the main file; ``secrets`` are masked everywhere.
    """

    services: dict[str, ServiceConfig]
    rambla: RamblaSettings = RamblaSettings()
    files: tuple[str, ...] = ()
    secrets: frozenset[str] = frozenset()

    def every_channel(self) -> list[ChannelConfig]:
        """Return the channels of all services, in the order of the file."""
        return [channel for service in self.services.values() for channel in service.channels.values()]

    __reduce__ = _not_pickled
    __deepcopy__ = _itself

    def __repr__(self) -> str:
        channels = len(self.every_channel())
        return f"Config({len(self.services)} services, {channels} channels, files={list(self.files)})"
