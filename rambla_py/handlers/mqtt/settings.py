"""This module is what a user may write in the TOML for the ``mqtt`` handler: typed, checked tables."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, secret_text
from rambla_py.tls import CaFile, OurCertFile, OurKeyFile, Verify

__all__ = ["Broker", "MqttOptions", "MqttSettings", "MqttTls", "broker_of"]

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the broker proves who it is, and how we do."""

    ca_file: CaFile = None
    cert_file: OurCertFile = None
    key_file: OurKeyFile = None
    server_name: Annotated[
        str | None, Meta(description="name that the broker's certificate must have; the host when not given")
    ] = None
    verify: Verify = True


class MqttSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of an ``mqtt`` connection: a ``url``, or its parts.

    >>> MqttSettings(host="broker.internal", password=Secret("hunter2")).password
    ***
    """

    url: Annotated[
        Secret | None, Meta(description="mqtt:// or mqtts:// (TLS), with user and password where needed")
    ] = None
    host: Annotated[str, Meta(min_length=1, description="where no URL is given")] = "localhost"
    port: Annotated[int | None, Meta(ge=1, le=65_535, description="TCP port; 1883, or 8883 with TLS")] = None
    username: Annotated[str | None, Meta(description="user, where the URL names none")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    tls: Annotated[bool | MqttTls, Meta(description="true, or a table, for TLS; on with mqtts:// anyway")] = (
        False
    )
    client_id: Annotated[
        str,
        Meta(
            max_length=200,
            description="name at the broker, with process, worker and a random part added; the broker's "
            "choice when empty",
        ),
    ] = ""
    keepalive_s: Annotated[
        int, Meta(ge=1, le=65_535, description="longest silence; after one and a half the other is gone")
    ] = 30
    connect_timeout_s: Annotated[
        float, Meta(gt=0, description="bound of connecting, of the broker's answer to it, and of a ping")
    ] = 5.0

    def __post_init__(self) -> None:
        if self.url is not None:
            _url_parts(secret_text(self.url) or "")


class MqttOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set for a channel, and for one message."""

    topic: Annotated[
        str | None,
        Meta(
            pattern=r"^[^+#\x00]+$",
            max_length=16_000,
            description="levels with slashes, no wildcards; the channel's name when not given",
        ),
    ] = None
    qos: Annotated[
        Literal[0, 1, 2],
        Meta(description="0: ok when the socket has it; 1: when the broker has; 2: the same, and once only"),
    ] = 1
    retain: Annotated[bool, Meta(description="the broker keeps it for those who subscribe later")] = False
    message_expiry_s: Annotated[
        int | None, Meta(ge=0, le=4_294_967_295, description="the broker drops it then, if undelivered")
    ] = None
    content_type: Annotated[
        str | None, Meta(max_length=1000, description="MQTT's content type; follows the payload")
    ] = None
    response_topic: Annotated[
        str | None, Meta(pattern=r"^[^+#\x00]+$", max_length=16_000, description="where answers are to go")
    ] = None
    id_property: Annotated[
        str, Meta(description='the user property that carries the message\'s id; "" leaves it out')
    ] = "id"


class Broker(NamedTuple):
    """Where a broker is and who asks, with the URL taken apart."""

    host: str
    port: int
    username: str | None
    password: str | None
    tls: MqttTls | None

    @property
    def where(self) -> str:
        """The broker's name for people, without credentials."""
        return f"mqtt at {self.host}:{self.port}"


def broker_of(settings: MqttSettings) -> Broker:
    """Return what a connection's table says; the parts of the URL win over the single fields.

    >>> broker_of(MqttSettings(url=Secret("mqtts://shop:hunter2@broker"))).where
    'mqtt at broker:8883'
    """
    scheme, host, port, username, password = "mqtt", settings.host, settings.port, None, None
    if settings.url is not None:
        scheme, host, port, username, password = _url_parts(secret_text(settings.url) or "")
    tls = settings.tls if isinstance(settings.tls, MqttTls) else None
    if tls is None and (settings.tls or scheme == "mqtts"):
        tls = MqttTls()
    return Broker(
        host=host,
        port=port or _PORTS["mqtts" if tls else "mqtt"],
        username=username or settings.username,
        password=password or secret_text(settings.password),
        tls=tls,
    )


def _url_parts(url: str) -> tuple[str, str, int | None, str | None, str | None]:
    """Return scheme, host, port, user and password; raises ``ValueError`` that quotes nothing of the URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
        known = parts.scheme in _PORTS and bool(parts.hostname) and parts.path in ("", "/")
    except ValueError:
        known = False
    if not known:
        raise ValueError("a URL must look like mqtt://user:password@host:1883, or mqtts://...") from None
    username = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return parts.scheme, parts.hostname or "", port, username, password
