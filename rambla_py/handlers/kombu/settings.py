"""The tables of a ``kombu`` connection and channel, with the arguments of kombu that they describe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from kombu.transport import TRANSPORT_ALIASES
from kombu.utils.url import parse_url
from msgspec import Meta

from rambla_py._internal.tls import TlsTable, refuse_keys, tls_table
from rambla_py._internal.urls import check_url, lower_scheme
from rambla_py.errors import nearest
from rambla_py.handler import Secret, per_channel, routing, secret_text

__all__ = ["KombuOptions", "KombuSettings", "connection_arguments", "speaks_amqp", "tls_of", "transport_of"]

_AMQP = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
_SQL = frozenset({"sqla", "sqlalchemy"})
_REDIS = frozenset({"redis", "rediss", "sentinel"})

_URL_PARTS = frozenset(
    {
        *("transport", "hostname", "port", "userid", "password", "virtual_host"),
        *("connect_timeout", "heartbeat", "insist", "login_method", "ssl"),
    }
)

_Priority = Annotated[
    int, Meta(ge=0, le=255, description="0 to 9 as a rule, where the transport supports priorities")
]


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
    tls: Annotated[bool | TlsTable, Meta(description="true, or a table, for TLS")] = False
    connect_timeout_s: Annotated[float, Meta(gt=0, le=1e9, description="bound of connecting")] = 5.0
    answer_timeout_s: Annotated[
        float,
        Meta(gt=0, le=1e9, description="longest wait for the server's answer"),
    ] = 10.0
    max_message_bytes: Annotated[
        int | None,
        Meta(ge=1, description="a larger payload is fatal without being sent"),
    ] = None

    def __post_init__(self) -> None:
        _check_url(_url_of(self))
        if transport_of(self) in _REDIS:
            refuse_keys(self.tls, "server_name", reason="redis-py checks the URL's host")


class KombuOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set for a channel; all but what concerns declaring also for one message."""

    exchange: Annotated[str, routing("the default exchange routes to the queue of that name")] = ""
    exchange_type: Annotated[
        Literal["direct", "topic", "fanout", "headers"],
        per_channel("type of the exchange to declare"),
    ] = "direct"
    routing_key: Annotated[str | None, routing("the queue's name, or the channel's, when not given")] = None
    queue: Annotated[
        str | None, per_channel("the queue to declare and bind; the channel's name with the default exchange")
    ] = None
    queue_arguments: Annotated[
        dict[str, Any], per_channel("arguments of the queue, when it is declared")
    ] = {}
    declare: Annotated[bool, per_channel("declare exchange, queue and binding on each connect")] = True
    durable: Annotated[bool, per_channel("what is declared survives a restart of the broker")] = True
    mandatory: Annotated[bool, Meta(description="a message that no queue takes is a failure")] = True
    persistent: Annotated[bool, Meta(description="the broker keeps it on disk in a durable queue")] = True
    message_priority: Annotated[_Priority | None, Meta(description="the message's priority")] = None
    message_expiry_s: Annotated[
        float | None,
        Meta(gt=0, le=1e9, description="the broker drops it then, if it can"),
    ] = None
    content_type: Annotated[str | None, Meta(description="follows the payload when not given")] = None


def transport_of(settings: KombuSettings) -> str:
    """Return the transport's name, which is the URL's scheme.

    >>> transport_of(KombuSettings(url=Secret("sqla+sqlite:///queue.db")))
    'sqla'
    """
    return _url_of(settings).partition("://")[0].partition("+")[0]


def speaks_amqp(settings: KombuSettings) -> bool:
    """Return whether the transport speaks AMQP 0-9-1 through py-amqp."""
    return transport_of(settings) in _AMQP - {"librabbitmq"}


def connection_arguments(settings: KombuSettings) -> dict[str, Any]:
    """Return the arguments of ``kombu.Connection``, with the secrets of the URL in them."""
    return {
        "hostname": _url_of(settings),
        "connect_timeout": settings.connect_timeout_s,
        "transport_options": {**_bounds(settings), **settings.transport_options},
        "ssl": _tls(settings),
        "heartbeat": 0,  # no thread would answer it between two messages
    }


def _bounds(settings: KombuSettings) -> dict[str, Any]:
    """Return the options that bound a transport's waits, and have it confirm."""
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


def tls_of(settings: KombuSettings) -> TlsTable | None:
    """Return the table of TLS, or None without TLS."""
    return tls_table(settings.tls or transport_of(settings) == "amqps")


def _tls(settings: KombuSettings) -> Any:
    given = tls_of(settings)
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


def _url_of(settings: KombuSettings) -> str:
    url = secret_text(settings.url) or ""
    # A transport may also be the name of a module, in which case counts.
    return url if "." in url.partition("://")[0] else lower_scheme(url)


def _check_url(url: str) -> None:
    """Raise ``ValueError`` that quotes nothing of the URL but its transport and its parameters' names."""
    check_url(url, at_in_path=True)
    transport, found, _ = url.partition("://")
    transport = transport.partition("+")[0]
    if not found or not transport:
        raise ValueError("a URL must begin with a transport of kombu, such as amqp:// or memory://")
    if transport not in TRANSPORT_ALIASES and "." not in transport:
        close = nearest(transport, TRANSPORT_ALIASES)
        hint = f"; did you mean {close!r}?" if close else ""
        raise ValueError(f"{transport!r} is no transport of kombu{hint}")
    try:
        parsed = parse_url(url)
    except Exception:
        # From None: the cause may quote a part of the password.
        raise ValueError(f"a URL of the transport {transport!r} that cannot be read") from None
    if transport in _AMQP | _REDIS:
        unknown = sorted(set(parsed) - _URL_PARTS)
        if unknown:
            raise ValueError(f"a URL with parameters that kombu does not know: {', '.join(unknown)}")
