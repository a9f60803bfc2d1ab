"""The connection's table and the options of the ``nats`` handler."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from rambla_py._internal.tls import TlsTable
from rambla_py._internal.urls import split_url
from rambla_py.handler import Secret, per_channel, routing, secret_text

__all__ = ["NatsOptions", "NatsServerAddress", "NatsSettings"]

_SUBJECT = r"^[^\s.*>]+(\.[^\s.*>]+)*$"
_FORM = "nats://user:password@host:4222, or tls://..."
_PORT = 4222


class NatsServerAddress(NamedTuple):
    """The address and login of one server; ``url`` is without the login."""

    host: str
    port: int
    tls: bool
    username: str | None
    password: Secret | None
    token: Secret | None

    @property
    def where(self) -> str:
        """The server's name for messages, without credentials."""
        return f"nats at {self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL for the driver."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls' if self.tls else 'nats'}://{host}:{self.port}"


class NatsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``nats`` connection: a ``url``, or the ``urls`` of a cluster, tried in order.

    >>> NatsSettings(username="shop", password=Secret("hunter2")).password
    ***
    """

    url: Annotated[
        Secret | None, Meta(description="nats:// or tls:// URL; nats://localhost:4222 when none is given")
    ] = None
    urls: Annotated[list[Secret], Meta(description="URLs of several servers, tried in order")] = []
    username: Annotated[str | None, Meta(description="user, where the URL names none")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    token: Annotated[Secret | None, Meta(description="token to log in with instead of a user")] = None
    credentials_file: Annotated[
        str | None, Meta(description="file with a JWT and its seed; needs the package nkeys")
    ] = None
    tls: Annotated[bool | TlsTable, Meta(description="true, or a table; always on with tls://")] = False
    name: Annotated[str, Meta(description="name of the connection in the server's monitoring")] = "rambla"
    inbox_prefix: Annotated[
        str,
        Meta(
            pattern=_SUBJECT,
            max_length=200,
            description="subject below which JetStream's acknowledgements arrive; the user must be allowed "
            "to subscribe to it",
        ),
    ] = "_INBOX"
    connect_timeout_s: Annotated[
        float, Meta(gt=0, le=1e9, description="limit for connecting to each URL")
    ] = 5.0
    answer_timeout_s: Annotated[
        float,
        Meta(gt=0, le=1e9, description="limit for pings, and for a batch without JetStream"),
    ] = 10.0
    ping_interval_s: Annotated[
        float,
        Meta(
            gt=0,
            le=1e9,
            description="seconds between PINGs; after two unanswered PINGs the connection is considered lost",
        ),
    ] = 10.0

    def __post_init__(self) -> None:
        if self.url is not None and self.urls:
            raise ValueError("both url and urls; give one of them")
        self.addresses()

    def addresses(self) -> list[NatsServerAddress]:
        """Return the servers, in the order in which they are tried."""
        listed = self.urls if self.url is None else [self.url]
        urls = [secret_text(url) or "" for url in listed] or [f"nats://localhost:{_PORT}"]
        return [self._address(url) for url in urls]

    def _address(self, url: str) -> NatsServerAddress:
        """Return one server; a URL with a user alone means a token, and a login in it takes precedence."""
        parts = split_url(url, ("nats", "tls"), _FORM)
        username, password, token = self.username, self.password, self.token
        if parts.username is not None and parts.password is None:
            username, password, token = None, None, Secret(parts.username)
        elif parts.username is not None:
            username, password, token = parts.username, Secret(parts.password or ""), None
        return NatsServerAddress(
            parts.host, parts.port or _PORT, parts.scheme == "tls", username, password, token
        )


class NatsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``nats`` channel; all but ``jetstream`` may also be set for one message."""

    subject: Annotated[
        str | None,
        routing(
            "words with dots, no wildcards; the channel's name when not given",
            pattern=_SUBJECT,
            max_length=1000,
        ),
    ] = None
    jetstream: Annotated[
        bool,
        per_channel("true: ok once a stream has stored the message; false: core NATS, which stores nothing"),
    ] = True
    stream: Annotated[
        str | None, Meta(min_length=1, description="the stream that must store it; any other refuses it")
    ] = None
