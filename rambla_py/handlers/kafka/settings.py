"""The connection's table and the options of the ``kafka`` handler."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rambla_py._internal.tls import TlsTable, refuse_keys
from rambla_py.handler import Secret, routing, secret_text
from rambla_py.handlers.kafka.driver_config import check_driver_config, check_mechanism

__all__ = ["KafkaOptions", "KafkaSettings", "KafkaTls", "milliseconds", "producer_config"]

_Bytes = Annotated[int, Meta(ge=1_000, le=1_000_000_000)]

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_LAST_PORT = 65_535
_TOPIC_WAIT_MS = 5_000
_LONGEST_MS = 2_147_483_647
_WITHOUT_USER = ("OAUTHBEARER", "GSSAPI")


class KafkaTls(TlsTable, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``tls`` table with the password of an encrypted key, which librdkafka takes."""

    key_password: Annotated[Secret | None, Meta(description="password of the private key")] = None


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
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"],
        Meta(
            description="SASL mechanism; OAUTHBEARER takes its token endpoint from config, GSSAPI needs a "
            "driver built with it"
        ),
    ] = "PLAIN"
    tls: Annotated[bool | KafkaTls, Meta(description="true, or a table, for TLS")] = False
    client_id: Annotated[str, Meta(description="name in the logs of the brokers")] = "rambla"
    acks: Annotated[
        Literal["all", "leader"],
        Meta(description="which replicas must have a message before it is ok; leader: not idempotent"),
    ] = "all"
    compression: Annotated[
        Literal["none", "gzip", "snappy", "lz4", "zstd"], Meta(description="compression of batches")
    ] = "none"
    linger_s: Annotated[
        float, Meta(ge=0, le=10, description="seconds to wait for more messages of a batch")
    ] = 0.002
    connect_timeout_s: Annotated[float, Meta(gt=0, le=1e9, description="limit for connecting and pings")] = (
        10.0
    )
    delivery_timeout_s: Annotated[
        float,
        Meta(gt=0, le=1e9, description="the driver's limit for one message; less than attempt_timeout_s"),
    ] = 25.0
    outage_s: Annotated[
        float,
        Meta(ge=0, le=1e9, description="after this long without any broker the connection is lost"),
    ] = 5.0
    max_message_bytes: Annotated[
        _Bytes, Meta(description="a larger message is fatal without being sent; set it to the brokers' limit")
    ] = 1_000_000
    config: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="further settings of librdkafka, by their names"),
    ] = {}

    def __post_init__(self) -> None:
        check_driver_config(self.config, idempotent=self.acks == "all")
        refuse_keys(self.tls, "server_name", reason="librdkafka compares certificates with the broker's host")
        for server in self.server_list():
            _check_server(server)
        if self.sasl_mechanism in _WITHOUT_USER:
            self._check_login()

    def _check_login(self) -> None:
        if self.username is not None or self.password is not None:
            raise ValueError(f"username or password with sasl_mechanism {self.sasl_mechanism!r}")
        check_mechanism(self.sasl_mechanism)
        oauth = [name for name in self.config if "sasl.oauthbearer." in name or "unsecure.jwt" in name]
        if self.sasl_mechanism == "OAUTHBEARER" and not oauth:
            raise ValueError(
                "sasl_mechanism 'OAUTHBEARER' without a token endpoint: set in config "
                "'sasl.oauthbearer.method' = 'oidc', 'sasl.oauthbearer.token.endpoint.url', "
                "'sasl.oauthbearer.client.id' and 'sasl.oauthbearer.client.secret'"
            )

    def server_list(self) -> list[str]:
        """Return the brokers to connect to first, each as ``host:port``."""
        listed = self.servers.split(",") if isinstance(self.servers, str) else self.servers
        return [name.strip() for name in listed]


class KafkaOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``kafka`` channel; each may also be set for one message."""

    topic: Annotated[
        str | None,
        routing(
            "the channel's name when not given",
            pattern=r"^[a-zA-Z0-9._-]{1,249}$",
        ),
    ] = None
    record_key: Annotated[
        str | None, Meta(description="the record's key, if other than the message's key")
    ] = None
    partition: Annotated[int | None, Meta(ge=0, description="chosen by the record's key when not given")] = (
        None
    )
    timestamp: Annotated[
        int | datetime | None, Meta(description="milliseconds since the epoch, or a time; now when not given")
    ] = None
    tombstone: Annotated[bool, Meta(description="a record without a value, whatever the payload")] = False
    id_header: Annotated[
        str, Meta(description='the header that carries the message\'s id; "" leaves it out')
    ] = "id"


def milliseconds(timestamp: int | datetime | None) -> int:
    """Return a record's timestamp for the driver; 0 means now.

    >>> from datetime import timezone
    >>> milliseconds(datetime(1970, 1, 1, 0, 0, 2, tzinfo=timezone.utc))
    2000
    """
    if isinstance(timestamp, datetime):
        return round(timestamp.timestamp() * 1000)
    return timestamp or 0


def producer_config(settings: KafkaSettings) -> dict[str, Any]:
    """Return the settings of librdkafka for one connection, secrets included."""
    durable = settings.acks == "all"
    config = {
        "bootstrap.servers": ",".join(settings.server_list()),
        "client.id": settings.client_id,
        "acks": "all" if durable else 1,
        "enable.idempotence": durable,
        "compression.type": settings.compression,
        "linger.ms": settings.linger_s * 1000,
        "delivery.timeout.ms": min(max(1, round(settings.delivery_timeout_s * 1000)), _LONGEST_MS),
        "message.max.bytes": settings.max_message_bytes,
        # The default would wait up to 30 s for a topic that does not exist, longer than delivery_timeout_s.
        "topic.metadata.propagation.max.ms": _TOPIC_WAIT_MS,
        # For a quick recovery: the defaults wait up to 10 s before the next attempt to connect.
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        **settings.config,
    }
    config["linger.ms"] = min(config["linger.ms"], config["delivery.timeout.ms"])
    return config | _security(settings)


def _security(settings: KafkaSettings) -> dict[str, Any]:
    config: dict[str, Any] = {}
    secured = bool(settings.tls)
    login = settings.username is not None or settings.sasl_mechanism in _WITHOUT_USER
    config["security.protocol"] = f"{'SASL_' if login else ''}{'SSL' if secured else 'PLAINTEXT'}"
    if login:
        config["sasl.mechanisms"] = settings.sasl_mechanism
    if settings.username is not None:
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


def _check_server(server: str) -> None:
    """Raise ``ValueError``, which quotes nothing: the value may be a URL with a password."""
    found = _HOST.fullmatch(server)
    if not found or (found["port"] and not 0 < int(found["port"]) <= _LAST_PORT):
        raise ValueError("servers: expected host:port of each broker, without a scheme or a login")
