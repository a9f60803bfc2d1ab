"""This module is what a user may write in the TOML for the ``amqp`` handler: typed, checked tables."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, per_channel, secret_text
from rambla_py.tls import CaFile, OurCertFile, OurKeyFile, Verify

__all__ = [
    "AmqpOptions",
    "AmqpSettings",
    "Binding",
    "Declaration",
    "ExchangeDeclaration",
    "Properties",
    "QueueDeclaration",
    "TlsSettings",
]

_MAX_MESSAGE_BYTES = 134_217_728
"""What RabbitMQ takes unless its ``max_message_size`` says otherwise (128 MiB)."""

_Port = Annotated[int, Meta(ge=1, le=65_535)]
_Heartbeat = Annotated[int, Meta(ge=0, le=65_535)]
_Byte = Annotated[int, Meta(ge=0, le=255)]
_Text = Annotated[str, Meta(max_length=255)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table that refuses keys it does not know."""


class TlsSettings(_Table, frozen=True, kw_only=True):
    """How the broker proves who it is, and how we do."""

    ca_file: CaFile = None
    cert_file: OurCertFile = None
    key_file: OurKeyFile = None
    server_name: Annotated[str | None, Meta(description="the name that the certificate must show")] = None
    verify: Verify = True


class AmqpSettings(_Table, frozen=True, kw_only=True):
    """How to reach the broker: ``url``, or ``urls`` of a cluster, or host and port.

    ``username``, ``password`` and ``virtual_host``, where given, replace those of a URL. Several URLs are
    tried in order; after a loss the one that follows is tried first.
    """

    url: Annotated[Secret | None, Meta(description="amqp:// or amqps:// URL")] = None
    urls: Annotated[list[Secret], Meta(description="URLs of several brokers, tried in order")] = []
    host: Annotated[str, Meta(description="where no URL is given")] = "localhost"
    port: Annotated[_Port | None, Meta(description="5672, or 5671 with TLS")] = None
    username: Annotated[str | None, Meta(description="guest where nothing says otherwise")] = None
    password: Annotated[Secret | None, Meta(description="guest where nothing says otherwise")] = None
    virtual_host: Annotated[str | None, Meta(description="/ where nothing says otherwise")] = None
    tls: Annotated[bool | TlsSettings, Meta(description="true, or a table; on with amqps:// anyway")] = False
    heartbeat_s: Annotated[
        _Heartbeat | None, Meta(description="whole seconds; 0: none; left out: what the broker says")
    ] = None
    connect_timeout_s: Annotated[float, Meta(gt=0, description="bound of connecting, for each URL")] = 10.0
    max_message_bytes: Annotated[
        int,
        Meta(ge=1, description="the broker's max_message_size: a larger payload is fatal before it is sent"),
    ] = _MAX_MESSAGE_BYTES

    def __post_init__(self) -> None:
        if self.url is not None and self.urls:
            raise ValueError("either url or urls")
        for url in self.all_urls():
            _check_url(url)

    def all_urls(self) -> list[str]:
        """Return the URLs as text, secrets included; empty where host and port are used."""
        listed = self.urls if self.url is None else [self.url]
        return [secret_text(url) or "" for url in listed]


class ExchangeDeclaration(_Table, frozen=True, kw_only=True):
    """An exchange that must be there; ``passive`` only looks whether it is."""

    name: Annotated[_Text | None, Meta(description="the channel's exchange where left out")] = None
    type: Annotated[str, Meta(description="direct, fanout, topic, headers, or a plugin's")] = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    passive: bool = False
    arguments: dict[str, Any] = {}


class QueueDeclaration(_Table, frozen=True, kw_only=True):
    """A queue that must be there; ``passive`` only looks whether it is."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    passive: bool = False
    arguments: dict[str, Any] = {}


class Binding(_Table, frozen=True, kw_only=True):
    """Leads an exchange to a queue; both default to those declared in the same table."""

    queue: _Text | None = None
    exchange: _Text | None = None
    routing_key: _Text = ""
    arguments: dict[str, Any] = {}


class Declaration(_Table, frozen=True, kw_only=True):
    """What to declare on each connect: exchange, then queue, then bindings."""

    exchange: ExchangeDeclaration | None = None
    queue: QueueDeclaration | None = None
    bindings: list[Binding] = []


class Properties(_Table, frozen=True, kw_only=True):
    """The basic properties of AMQP 0-9-1; what is left out is not sent, but for three.

    ``content_type`` follows the payload, ``message_id`` is the message's id, ``delivery_mode`` follows
    ``persistent``. RabbitMQ closes the channel when ``user_id`` is not the user of the connection.
    """

    content_type: _Text | None = None
    content_encoding: _Text | None = None
    correlation_id: _Text | None = None
    reply_to: _Text | None = None
    expiration: Annotated[str | int | None, Meta(description="milliseconds until the broker drops it")] = None
    type: _Text | None = None
    user_id: _Text | None = None
    app_id: _Text | None = None
    timestamp: Annotated[int | datetime | None, Meta(description="seconds since the epoch, or a time")] = None
    priority: _Byte | None = None
    cluster_id: _Text | None = None
    message_id: _Text | None = None
    delivery_mode: Literal[1, 2] | None = None
    headers: Annotated[dict[str, Any], Meta(description="below the message's own headers")] = {}


class AmqpOptions(_Table, frozen=True, kw_only=True):
    """What may be set for a channel, and for one message but for ``declare`` and ``confirm``."""

    exchange: Annotated[str, Meta(description="the default exchange leads to the queue of that name")] = ""
    routing_key: Annotated[str, Meta(description="or the queue's name, with the default exchange")] = ""
    declare: Annotated[
        Declaration | list[Declaration] | None, per_channel("exchanges, queues and bindings to declare")
    ] = None
    mandatory: Annotated[bool, Meta(description="a message that no queue takes is a failure")] = True
    confirm: Annotated[bool, per_channel("wait for the broker's confirm; false: at most once")] = True
    persistent: Annotated[bool, Meta(description="the broker writes it to disk in a durable queue")] = True
    properties: Properties = Properties()

    def __post_init__(self) -> None:
        for declaration in self.declarations():
            _check_declaration(declaration, self.exchange)

    def declarations(self) -> list[Declaration]:
        """Return what is to be declared, as a list."""
        if self.declare is None:
            return []
        return [self.declare] if isinstance(self.declare, Declaration) else self.declare


def _check_url(url: str) -> None:
    """Raise ``ValueError`` without the URL in its text: it holds a password."""
    try:
        parts = urlsplit(url)
        known, _ = parts.scheme in ("amqp", "amqps"), parts.port
    except ValueError:
        known = False
    if not known:
        raise ValueError("a URL must look like amqp://user:password@host:5672/virtual_host, or amqps://...")


def _check_declaration(declaration: Declaration, exchange: str) -> None:
    declared = declaration.exchange
    if declared is not None and not (declared.name or exchange):
        raise ValueError("declare.exchange needs a name where the channel has no exchange")
    for binding in declaration.bindings:
        if not (binding.queue or declaration.queue):
            raise ValueError("a binding needs a queue where none is declared beside it")
        if not (binding.exchange or (declared and declared.name) or exchange):
            raise ValueError("a binding needs an exchange; the default exchange takes none")
