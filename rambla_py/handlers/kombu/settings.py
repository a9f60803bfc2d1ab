"""This module is what a user may write in the TOML for the ``kombu`` handler: typed, checked tables."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.url import parse_url
from msgspec import Meta

from rambla_py.errors import nearest
from rambla_py.handler import Secret, per_channel, secret_text
from rambla_py.tls import CaFile, OurCertFile, OurKeyFile, Verify

__all__ = ["KombuOptions", "KombuSettings", "KombuTls", "connection_arguments", "transport_of"]

_AMQP = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
_SQL = frozenset({"sqla", "sqlalchemy"})
_REDIS = frozenset({"redis", "rediss", "sentinel"})
_AMQP_LIMIT = 134_217_728
"""What RabbitMQ takes unless its ``max_message_size`` says otherwise (128 MiB)."""

_Priority = Annotated[
    int, Meta(ge=0, le=255, description="where the transport knows priorities; 0 to 9, as a rule")
]


class KombuTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the server proves who it is, and how we do; for amqp and redis."""

    ca_file: CaFile = None
    cert_file: OurCertFile = None
    key_file: OurKeyFile = None
    server_name: Annotated[
        str | None,
        Meta(description="amqp: the name that the certificate must show; with redis it is the URL's host"),
    ] = None
    verify: Verify = True


class KombuSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``kombu`` connection.

    >>> KombuSettings(url=Secret("amqp://guest:hunter2@broker//")).url
    ***
    """

    url: Annotated[
        Secret, Meta(description="kombu's URL: memory://, filesystem://, amqp://, redis://, sqs://, sqla+...")
    ]
    transport_options: Annotated[
        dict[str, Any], Meta(description="kombu's transport_options, as its pages name them")
    ] = {}
    tls: Annotated[bool | KombuTls, Meta(description="true, or a table, for TLS")] = False
    connect_timeout_s: Annotated[float, Meta(gt=0, description="bound of connecting")] = 5.0
    answer_timeout_s: Annotated[
        float, Meta(gt=0, description="longest wait for the server's answer, where the transport has bounds")
    ] = 10.0
    max_message_bytes: Annotated[
        int | None, Meta(ge=1, description="a larger payload is fatal before it is sent; amqp: 128 MiB")
    ] = None

    def __post_init__(self) -> None:
        _check_url(secret_text(self.url) or "")
        if isinstance(self.tls, KombuTls) and self.tls.server_name and transport_of(self) in _REDIS:
            raise ValueError(
                "tls.server_name is for amqp; with redis the certificate must show the URL's host"
            )

    @property
    def limit(self) -> int | None:
        """The largest payload in bytes; None where nobody said."""
        if self.max_message_bytes is None and transport_of(self) in _AMQP:
            return _AMQP_LIMIT
        return self.max_message_bytes


class KombuOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set for a channel, and for one message but for ``declare``, ``queue`` and its kin."""

    exchange: Annotated[str, Meta(description="the default exchange leads to the queue of that name")] = ""
    exchange_type: Annotated[
        Literal["direct", "topic", "fanout", "headers"], per_channel("of the exchange, when it is declared")
    ] = "direct"
    routing_key: Annotated[
        str | None, Meta(description="the queue's name, or the channel's, when not given")
    ] = None
    queue: Annotated[
        str | None, per_channel("the queue to declare and bind; the channel's name with the default exchange")
    ] = None
    queue_arguments: Annotated[
        dict[str, Any], per_channel("arguments of the queue, when it is declared")
    ] = {}
    declare: Annotated[bool, per_channel("make exchange, queue and binding on each connect")] = True
    durable: Annotated[bool, per_channel("what is declared outlives the broker")] = True
    mandatory: Annotated[bool, Meta(description="a message that no queue takes is a failure")] = True
    persistent: Annotated[bool, Meta(description="the broker keeps it on disk in a durable queue")] = True
    message_priority: Annotated[_Priority | None, Meta(description="the message's priority")] = None
    message_expiry_s: Annotated[
        float | None, Meta(gt=0, description="the broker drops it then; where the transport knows that")
    ] = None
    content_type: Annotated[str | None, Meta(description="follows the payload when not given")] = None


def transport_of(settings: KombuSettings) -> str:
    """Return the transport's name, which is the URL's scheme.

    >>> transport_of(KombuSettings(url=Secret("sqla+sqlite:///queue.db")))
    'sqla'
    """
    return (secret_text(settings.url) or "").partition("://")[0].partition("+")[0]


def connection_arguments(settings: KombuSettings) -> dict[str, Any]:
    """Return the arguments of ``kombu.Connection``; the secrets of the URL are in it."""
    return {
        "hostname": secret_text(settings.url),
        "connect_timeout": settings.connect_timeout_s,
        "transport_options": {**_bounds(settings), **settings.transport_options},
        "ssl": _tls(settings),
        "heartbeat": 0,  # it needs somebody who serves it, and nobody does between two messages
    }


def _bounds(settings: KombuSettings) -> dict[str, Any]:
    """Return what keeps a transport from waiting for ever, and has it confirm."""
    transport, connect_s, answer_s = (
        transport_of(settings),
        settings.connect_timeout_s,
        settings.answer_timeout_s,
    )
    if transport in _AMQP:
        return {"confirm_publish": True, "read_timeout": answer_s, "write_timeout": answer_s}
    if transport in _REDIS:
        return {"socket_timeout": answer_s, "socket_connect_timeout": connect_s, "retry_on_timeout": False}
    if transport == "sqs":
        return {"client-config": {"connect_timeout": connect_s, "read_timeout": answer_s}}
    if transport in _SQL:
        return {"hide_parameters": True}  # its errors would show the payload
    return {}


def _tls(settings: KombuSettings) -> Any:
    if isinstance(settings.tls, bool):
        implied = transport_of(settings) == "amqps"
        given = KombuTls() if settings.tls or implied else None
    else:
        given = settings.tls
    if given is None:
        return None
    if transport_of(settings) in _REDIS:
        wanted = {
            "ssl_ca_certs": given.ca_file,
            "ssl_certfile": given.cert_file,
            "ssl_keyfile": given.key_file,
        }
        checks: dict[str, Any] = {
            "ssl_cert_reqs": "required" if given.verify else "none",
            "ssl_check_hostname": given.verify,
        }
    else:
        wanted = {
            "ca_certs": given.ca_file,
            "certfile": given.cert_file,
            "keyfile": given.key_file,
            "server_hostname": given.server_name,
        }
        checks = {"cert_reqs": 2 if given.verify else 0}
    return {name: value for name, value in wanted.items() if value is not None} | checks


def _check_url(url: str) -> None:
    """Raise ``ValueError`` that quotes nothing of the URL but its transport."""
    transport, found, _ = url.partition("://")
    transport = transport.partition("+")[0]
    if not found or not transport:
        raise ValueError("a URL must begin with a transport of kombu, as amqp:// or memory:// do")
    if transport not in TRANSPORT_ALIASES and "." not in transport:
        close = nearest(transport, TRANSPORT_ALIASES)
        hint = f"; did you mean {close!r}?" if close else ""
        raise ValueError(f"{transport!r} is no transport of kombu{hint}")
    try:
        parse_url(url)
    except Exception:
        # From None: the cause may quote a part of the password.
        raise ValueError(f"a URL of the transport {transport!r} that cannot be read") from None
