"""The tables of an ``amqp`` connection and channel, with the parameters and calls of pika that they give."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final, Literal

import msgspec
import pika
from msgspec import Meta
from pika.channel import Channel
from pika.connection import Parameters

from rambla_py._internal.tls import TlsTable, client_context, tls_table
from rambla_py._internal.urls import ServerUrl, split_url
from rambla_py.handler import Secret, per_channel, routing, secret_text

__all__ = [
    "AmqpOptions",
    "AmqpSettings",
    "Binding",
    "Declaration",
    "ExchangeDeclaration",
    "Properties",
    "QueueDeclaration",
    "address_of",
    "all_parameters",
    "declaration_steps",
    "default_key",
    "without_heartbeat",
]

_GUEST: Final = "guest"
_FORM: Final = "amqp://user:password@host:5672/virtual_host, or amqps://..."
_DIRECT_REPLY: Final = "amq.rabbitmq.reply-to"

_Port = Annotated[int, Meta(ge=1, le=65_535)]
_Heartbeat = Annotated[int, Meta(ge=0, le=65_535)]
_Size = Annotated[int, Meta(ge=1)]
_Byte = Annotated[int, Meta(ge=0, le=255)]
_ShortString = Annotated[str, Meta(max_length=255)]


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table without unknown keys."""


class AmqpSettings(_Table, frozen=True, kw_only=True):
    """How to reach the broker: ``url``, or ``urls`` of a cluster, or host and port.

    ``username``, ``password`` and ``virtual_host``, where given, replace those of a URL. Several URLs are
    tried in order; after a loss the next one is tried first.
    """

    url: Annotated[Secret | None, Meta(description="amqp:// or amqps:// URL")] = None
    urls: Annotated[list[Secret], Meta(description="URLs of several brokers, tried in order")] = []
    host: Annotated[str, Meta(description="used without a URL")] = "localhost"
    port: Annotated[_Port | None, Meta(description="5672, or 5671 with TLS")] = None
    username: Annotated[str | None, Meta(description="guest when not given")] = None
    password: Annotated[Secret | None, Meta(description="guest when not given")] = None
    virtual_host: Annotated[str | None, Meta(description="/ when not given")] = None
    tls: Annotated[bool | TlsTable, Meta(description="true, or a table; always on with amqps://")] = False
    heartbeat_s: Annotated[
        _Heartbeat | None, Meta(description="whole seconds; 0: none; the broker's when not given")
    ] = None
    connect_timeout_s: Annotated[float, Meta(gt=0, le=1e9, description="bound of connecting to each URL")] = (
        10.0
    )
    max_message_bytes: Annotated[
        _Size | None,
        Meta(description="a larger payload is fatal without being sent; the broker's when not given"),
    ] = None
    check_user_id: Annotated[
        bool,
        Meta(description="a message with another user's user_id is fatal without being sent; false: sent"),
    ] = True

    def __post_init__(self) -> None:
        if self.url is not None and self.urls:
            raise ValueError("either url or urls")
        for url in self.all_urls():
            _url_parameters(url, _parts(url))

    def all_urls(self) -> list[str]:
        """Return the URLs as text, secrets included; empty where host and port are used."""
        listed = self.urls if self.url is None else [self.url]
        return [secret_text(url) or "" for url in listed]


class ExchangeDeclaration(_Table, frozen=True, kw_only=True):
    """An exchange to declare; ``passive`` only checks that it exists."""

    name: Annotated[_ShortString | None, Meta(description="the channel's exchange when not given")] = None
    type: Annotated[str, Meta(description="direct, fanout, topic, headers, or a plugin's")] = "direct"
    durable: bool = True
    auto_delete: bool = False
    internal: bool = False
    passive: bool = False
    arguments: dict[str, Any] = {}


class QueueDeclaration(_Table, frozen=True, kw_only=True):
    """A queue to declare; ``passive`` only checks that it exists."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    passive: bool = False
    arguments: dict[str, Any] = {}


class Binding(_Table, frozen=True, kw_only=True):
    """Binds a queue to an exchange; both default to those declared in the same table."""

    queue: _ShortString | None = None
    exchange: _ShortString | None = None
    routing_key: _ShortString = ""
    arguments: dict[str, Any] = {}


class Declaration(_Table, frozen=True, kw_only=True):
    """What to declare on each connect: exchange, then queue, then bindings."""

    exchange: ExchangeDeclaration | None = None
    queue: QueueDeclaration | None = None
    bindings: list[Binding] = []


class Properties(_Table, frozen=True, kw_only=True):
    """The basic properties of AMQP 0-9-1; all but three are sent only when given.

    By default ``content_type`` follows the payload, ``message_id`` is the message's id, and
    ``delivery_mode`` follows ``persistent``.
    """

    content_type: _ShortString | None = None
    content_encoding: _ShortString | None = None
    correlation_id: _ShortString | None = None
    reply_to: _ShortString | None = None
    expiration: Annotated[str | int | None, Meta(description="milliseconds until the broker drops it")] = None
    type: _ShortString | None = None
    user_id: _ShortString | None = None
    app_id: _ShortString | None = None
    timestamp: Annotated[int | datetime | None, Meta(description="seconds since the epoch, or a date")] = None
    priority: _Byte | None = None
    cluster_id: _ShortString | None = None
    message_id: _ShortString | None = None
    delivery_mode: Literal[1, 2] | None = None
    headers: Annotated[dict[str, Any], Meta(description="overridden by the message's own headers")] = {}

    def __post_init__(self) -> None:
        expiration = "0" if self.expiration is None else str(self.expiration)
        if not (expiration.isascii() and expiration.isdigit()):
            raise ValueError("expiration must be whole milliseconds, 0 or more")
        if self.reply_to == _DIRECT_REPLY:
            raise ValueError(f"reply_to = {_DIRECT_REPLY!r} needs a consumer, and a publisher has none")


class AmqpOptions(_Table, frozen=True, kw_only=True):
    """What may be set for a channel; all but ``declare`` and ``confirm`` also for one message."""

    exchange: Annotated[str, routing("the default exchange routes to the queue of that name")] = ""
    routing_key: Annotated[
        str, routing("with the default exchange, the queue's name: the channel's when not given")
    ] = ""
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
        """Return ``declare`` as a list."""
        if self.declare is None:
            return []
        return [self.declare] if isinstance(self.declare, Declaration) else self.declare


def default_key(options: AmqpOptions, channel: str) -> str:
    """Return the routing key of a message of a channel.

    >>> default_key(AmqpOptions(), "orders"), default_key(AmqpOptions(exchange="logs"), "orders")
    ('orders', '')
    """
    return options.routing_key or ("" if options.exchange else channel)


def all_parameters(settings: AmqpSettings) -> list[Parameters]:
    """Return pika's parameters for each broker of a connection's table, in order.

    Raises ``AccessError`` when a file of ``tls`` cannot be read.

    >>> [address_of(parameters) for parameters in all_parameters(AmqpSettings(host="broker"))]
    ['broker:5672']
    """
    found = []
    for url in settings.all_urls():
        parts = _parts(url)
        found.append(_completed(_url_parameters(url, parts), parts, settings))
    if not found:
        parameters = pika.ConnectionParameters(host=settings.host, port=settings.port or 5672)
        found.append(_completed(parameters, None, settings))
    return found


def address_of(parameters: Parameters) -> str:
    """Return ``host:port``, as errors and logs name a broker."""
    return f"{parameters.host}:{parameters.port}"


def without_heartbeat(parameters: Parameters) -> Parameters:
    """Return the same parameters for a connection that no thread serves while it is idle."""
    # An SSL context cannot be copied; pika works around it in the same way.
    options, parameters.ssl_options = parameters.ssl_options, None
    try:
        bare = copy.copy(parameters)
    finally:
        parameters.ssl_options = options
    bare.ssl_options = options
    bare.heartbeat = 0
    return bare


def _parts(url: str) -> ServerUrl:
    return split_url(url, ("amqp", "amqps"), _FORM)


def _url_parameters(url: str, parts: ServerUrl) -> Parameters:
    """Return what pika reads from a URL without its login; raises ``ValueError`` for an unknown parameter."""
    if "ssl_options" in parts.query:
        raise ValueError("a url with ssl_options; use the connection's tls table")
    host = f"[{parts.host}]" if ":" in parts.host else parts.host
    port = parts.port or (5671 if parts.scheme == "amqps" else 5672)
    # pika's own errors would show the login.
    bare = f"amqp://{host}:{port}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    try:
        return pika.URLParameters(bare)
    except (ValueError, TypeError, SyntaxError) as error:
        raise ValueError(f"a url with a parameter that pika refuses: {error}") from None


def _completed(parameters: Parameters, parts: ServerUrl | None, settings: AmqpSettings) -> Parameters:
    """Return the parameters with login, TLS and what else the table sets."""
    username, password = settings.username, secret_text(settings.password)
    if parts is not None:
        username = parts.username if username is None else username
        password = parts.password if password is None else password
    parameters.credentials = pika.PlainCredentials(
        _GUEST if username is None else username, _GUEST if password is None else password
    )
    if settings.virtual_host is not None:
        parameters.virtual_host = settings.virtual_host
    if settings.heartbeat_s is not None:
        parameters.heartbeat = settings.heartbeat_s
    parameters.socket_timeout = parameters.stack_timeout = settings.connect_timeout_s
    parameters.connection_attempts = 1  # the worker tries again, with a back-off of its own
    tls = tls_table(settings.tls or (parts is not None and parts.scheme == "amqps"))
    if tls is not None:
        if (parts.port if parts else settings.port) is None:
            parameters.port = 5671
        context = client_context(tls, address_of(parameters))
        parameters.ssl_options = pika.SSLOptions(context, tls.server_name or parameters.host)
    return parameters


def _check_declaration(declaration: Declaration, exchange: str) -> None:
    declared = declaration.exchange
    if declared is not None and not (declared.name or exchange):
        raise ValueError("declare.exchange needs a name where the channel has no exchange")
    for binding in declaration.bindings:
        if not (binding.queue or declaration.queue):
            raise ValueError("a binding needs a queue where none is declared beside it")
        if not (binding.exchange or (declared and declared.name) or exchange):
            raise ValueError("a binding needs an exchange; the default exchange takes none")


Step = Callable[..., Any]
"""A call of pika's that still lacks its ``callback``."""


def declaration_steps(channel: Channel, options: AmqpOptions) -> list[Step]:
    """Return the calls on the channel, in order, that declare what the options list.

    Each takes a ``callback`` for the broker's answer. The broker closes the channel when something exists
    with other arguments, or is ``passive`` and missing.
    """
    return [step for declaration in options.declarations() for step in _steps(channel, declaration, options)]


def _steps(channel: Channel, declaration: Declaration, options: AmqpOptions) -> Iterator[Step]:
    exchange, queue = declaration.exchange, declaration.queue
    exchange_name = (exchange.name if exchange else None) or options.exchange
    if exchange is not None:
        yield partial(
            channel.exchange_declare,
            exchange_name,
            exchange_type=exchange.type,
            passive=exchange.passive,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            internal=exchange.internal,
            arguments=exchange.arguments or None,
        )
    if queue is not None:
        yield partial(
            channel.queue_declare,
            queue.name,
            passive=queue.passive,
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
            arguments=queue.arguments or None,
        )
    for binding in declaration.bindings:
        yield partial(
            channel.queue_bind,
            binding.queue or (queue.name if queue else ""),
            binding.exchange or exchange_name,
            routing_key=binding.routing_key,
            arguments=binding.arguments or None,
        )
