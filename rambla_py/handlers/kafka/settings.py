"""This module is what a user may write in the TOML for the ``kafka`` handler: typed, checked tables."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, secret_text
from rambla_py.tls import CaFile, OurCertFile, OurKeyFile, Verify

__all__ = ["KafkaOptions", "KafkaSettings", "KafkaTls", "milliseconds", "producer_config"]

_Bytes = Annotated[int, Meta(ge=1_000, le=1_000_000_000)]

# What the handler decides itself: a delivery's outcome depends on it.
_OURS = frozenset(
    {
        "acks",
        "bootstrap.servers",
        "compression.type",
        "delivery.report.only.error",
        "delivery.timeout.ms",
        "enable.idempotence",
        "enable.gapless.guarantee",
        "error_cb",
        "linger.ms",
        "logger",
        "message.max.bytes",
        "message.timeout.ms",
        "on_delivery",
        "queue.buffering.max.ms",
        "request.required.acks",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "transactional.id",
    }
)


class KafkaTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the brokers prove who they are, and how we do."""

    ca_file: CaFile = None
    cert_file: OurCertFile = None
    key_file: OurKeyFile = None
    key_password: Annotated[Secret | None, Meta(description="password of that key")] = None
    verify: Verify = True


class KafkaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``kafka`` connection.

    >>> KafkaSettings(servers="kafka-1:9092,kafka-2:9092", password=Secret("hunter2")).password
    ***
    """

    servers: Annotated[
        str | list[str], Meta(description="host:port of some brokers of the cluster; several with commas")
    ] = "localhost:9092"
    username: Annotated[str | None, Meta(description="SASL user; no SASL when not given")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="how the user logs in")
    ] = "PLAIN"
    tls: Annotated[bool | KafkaTls, Meta(description="true, or a table, for TLS")] = False
    client_id: Annotated[str, Meta(description="name that the brokers log")] = "rambla"
    acks: Annotated[
        Literal["all", "leader"],
        Meta(description="which replicas have it before a message is ok; leader: not idempotent"),
    ] = "all"
    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"], Meta(description="of batches on the wire")
    ] = "none"
    linger_s: Annotated[float, Meta(ge=0, le=10, description="wait for more messages of a batch")] = 0.002
    connect_timeout_s: Annotated[float, Meta(gt=0, description="bound of connecting, and of a ping")] = 10.0
    delivery_timeout_s: Annotated[
        float, Meta(gt=0, description="how long the driver tries one message; below attempt_timeout_s")
    ] = 25.0
    outage_s: Annotated[
        float,
        Meta(ge=0, description="all brokers gone for so long: what is in flight is unknown, and reconnect"),
    ] = 5.0
    max_message_bytes: Annotated[
        _Bytes, Meta(description="a larger message is fatal before it is sent; the brokers' own limit")
    ] = 1_000_000
    config: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="further settings of librdkafka, by their names"),
    ] = {}

    def __post_init__(self) -> None:
        ours = sorted(set(self.config) & _OURS)
        if ours:
            raise ValueError(f"config may not set {', '.join(ours)}: the handler does")
        if not [name for name in self.server_list() if name]:
            raise ValueError("servers names no broker")

    def server_list(self) -> list[str]:
        """Return the brokers to ask first, each as ``host:port``."""
        listed = self.servers.split(",") if isinstance(self.servers, str) else self.servers
        return [name.strip() for name in listed]


class KafkaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set for a channel, and for one message."""

    topic: Annotated[
        str | None,
        Meta(pattern=r"^[a-zA-Z0-9._-]{1,249}$", description="the channel's name when not given"),
    ] = None
    record_key: Annotated[
        str | None, Meta(description="the record's key, where it is not the message's key")
    ] = None
    partition: Annotated[int | None, Meta(ge=0, description="chosen by the key when not given")] = None
    timestamp: Annotated[
        int | datetime | None, Meta(description="milliseconds since the epoch, or a time; now when not given")
    ] = None
    tombstone: Annotated[bool, Meta(description="a record without a value, whatever the payload")] = False
    id_header: Annotated[
        str, Meta(description='the header that carries the message\'s id; "" leaves it out')
    ] = "id"


def milliseconds(timestamp: int | datetime | None) -> int:
    """Return a record's timestamp as the driver takes it; 0 is now.

    >>> from datetime import timezone
    >>> milliseconds(datetime(1970, 1, 1, 0, 0, 2, tzinfo=timezone.utc))
    2000
    """
    if isinstance(timestamp, datetime):
        return round(timestamp.timestamp() * 1000)
    return timestamp or 0


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Return the settings of librdkafka for one connection; secrets are in it."""
    durable = settings.acks == "all"
    config = {
        "bootstrap.servers": ",".join(settings.server_list()),
        "client.id": settings.client_id,
        "acks": "all" if durable else 1,
        "enable.idempotence": durable,
        "compression.type": settings.compression,
        "linger.ms": settings.linger_s * 1000,
        "delivery.timeout.ms": max(1, round(settings.delivery_timeout_s * 1000)),
        "message.max.bytes": settings.max_message_bytes,
        # Both are set for speed of recovery: the defaults wait up to 10 s before a broker is tried again.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        **settings.config,
    }
    config["linger.ms"] = min(config["linger.ms"], config["delivery.timeout.ms"])
    return config | _security(settings)


def _security(settings: KafkaSettings) -> dict[str, Any]:
    config: dict[str, Any] = {}
    secured, login = bool(settings.tls), settings.username is not None
    config["security.protocol"] = f"{'SASL_' if login else ''}{'SSL' if secured else 'PLAINTEXT'}"
    if login:
        config["sasl.mechanisms"] = settings.sasl_mechanism
        config["sasl.username"] = settings.username
        config["sasl.password"] = secret_text(settings.password) or ""
    if isinstance(settings.tls, KafkaTls):
        tls = settings.tls
        given = {
            "ssl.ca.location": tls.ca_file,
            "ssl.certificate.location": tls.cert_file,
            "ssl.key.location": tls.key_file,
            "ssl.key.password": secret_text(tls.key_password),
            "enable.ssl.certificate.verification": tls.verify,
        }
        config |= {name: value for name, value in given.items() if value is not None}
    return config
