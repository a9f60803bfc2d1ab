"""The connection's table and the options of the ``mqtt`` handler."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from rambla_py._internal.host_names import ascii_host
from rambla_py._internal.tls import TlsTable, tls_table
from rambla_py._internal.urls import ServerUrl, split_url
from rambla_py.handler import Secret, routing, secret_text

__all__ = ["Broker", "MqttOptions", "MqttSettings", "broker_of"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FORM = "mqtt://user:password@host:1883, or mqtts://..."


class MqttSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of an ``mqtt`` connection: a ``url``, or its parts.

    >>> MqttSettings(host="broker.internal", password=Secret("hunter2")).password
    ***
    """

    url: Annotated[
        Secret | None, Meta(description="mqtt:// or mqtts:// (TLS), with user and password where needed")
    ] = None
    host: Annotated[str, Meta(min_length=1, description="host, where no URL is given")] = "localhost"
    port: Annotated[int | None, Meta(ge=1, le=65_535, description="TCP port; 1883, or 8883 with TLS")] = None
    username: Annotated[str | None, Meta(description="user, where the URL names none")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    tls: Annotated[bool | TlsTable, Meta(description="true, or a table; always on with mqtts://")] = False
    client_id: Annotated[
        str,
        Meta(
            max_length=200,
            description="client identifier; process, worker and a random part are added; empty: the broker "
            "chooses one",
        ),
    ] = ""
    keepalive_s: Annotated[
        int,
        Meta(
            ge=1,
            le=65_535,
            description="longest silence; after 1.5 times as long the connection is lost",
        ),
    ] = 30
    connect_timeout_s: Annotated[
        float,
        Meta(gt=0, le=1e9, description="limit for connecting, the answer to CONNECT, and pings"),
    ] = 5.0

    def __post_init__(self) -> None:
        broker_of(self)


class MqttOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of an ``mqtt`` channel; each may also be set for one message."""

    topic: Annotated[
        str | None,
        routing(
            "levels with slashes, no wildcards; the channel's name when not given",
            pattern=r"^[^+#\x00]+$",
            max_length=16_000,
        ),
    ] = None
    qos: Annotated[
        Literal[0, 1, 2],
        Meta(description="0: ok once the socket has it; 1: once the broker has it; 2: as 1, exactly once"),
    ] = 1
    retain: Annotated[bool, Meta(description="the broker keeps it for later subscribers")] = False
    message_expiry_s: Annotated[
        int | None,
        Meta(ge=0, le=4_294_967_295, description="seconds until the broker drops it"),
    ] = None
    content_type: Annotated[
        str | None, Meta(max_length=1000, description="MQTT's content type; by default that of the payload")
    ] = None
    response_topic: Annotated[
        str | None, Meta(pattern=r"^[^+#\x00]+$", max_length=16_000, description="the topic for replies")
    ] = None
    id_property: Annotated[
        str, Meta(description='the user property that carries the message\'s id; "" leaves it out')
    ] = "id"


class Broker(NamedTuple):
    """The address and login of a broker."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: TlsTable | None

    @property
    def where(self) -> str:
        """The broker's name for messages, without credentials."""
        return f"mqtt at {self.host}:{self.port}"


def broker_of(settings: MqttSettings) -> Broker:
    """Return the broker in a connection's table; the URL takes precedence over the other fields.

    >>> broker_of(MqttSettings(url=Secret("mqtts://shop:hunter2@broker"))).where
    'mqtt at broker:8883'
    """
    if settings.url is None:
        url = ServerUrl("mqtt", ascii_host(settings.host), settings.port, "", "", None, None)
    else:
        url = _read(settings.url)
    tls = tls_table(settings.tls) or (TlsTable() if url.scheme == "mqtts" else None)
    return Broker(
        host=url.host,
        port=url.port or _PORTS["mqtts" if tls else "mqtt"],
        username=url.username or settings.username,
        password=url.password or secret_text(settings.password),
        tls=tls,
    )


def _read(url: Secret) -> ServerUrl:
    """Return the parts of a URL; raises ``ValueError`` that quotes nothing of it."""
    parts = split_url(secret_text(url) or "", _PORTS, _FORM)
    if parts.path not in ("", "/") or parts.query:
        raise ValueError(f"a url with a path or parameters; expected {_FORM}")
    return parts
