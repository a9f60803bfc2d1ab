"""This module is what a user may write in the TOML for the ``nats`` handler: typed, checked tables."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, per_channel, secret_text
from rambla_py.tls import CaFile, OurCertFile, OurKeyFile, ServerName, Verify

__all__ = ["NatsOptions", "NatsSettings", "NatsTls"]


class NatsTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the server proves who it is, and how we do."""

    ca_file: CaFile = None
    cert_file: OurCertFile = None
    key_file: OurKeyFile = None
    server_name: ServerName = None
    verify: Verify = True


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
    token: Annotated[Secret | None, Meta(description="token to log in with, in place of a user")] = None
    credentials_file: Annotated[
        str | None, Meta(description="file of a JWT and its seed; needs the package nkeys")
    ] = None
    tls: Annotated[bool | NatsTls, Meta(description="true, or a table; on with tls:// anyway")] = False
    name: Annotated[str, Meta(description="name of the connection in the server's monitoring")] = "rambla"
    connect_timeout_s: Annotated[float, Meta(gt=0, description="bound of connecting, for each URL")] = 5.0
    answer_timeout_s: Annotated[
        float, Meta(gt=0, description="bound of a ping, and of the answer to a batch without JetStream")
    ] = 10.0
    ping_interval_s: Annotated[
        float, Meta(gt=0, description="the server is asked so often; silent twice, it is gone")
    ] = 10.0

    def __post_init__(self) -> None:
        if self.url is not None and self.urls:
            raise ValueError("either url or urls")
        for url in self.all_urls():
            _check_url(url)

    def all_urls(self) -> list[str]:
        """Return the URLs as text, secrets included."""
        listed = self.urls if self.url is None else [self.url]
        return [secret_text(url) or "" for url in listed] or ["nats://localhost:4222"]


class NatsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What may be set for a channel, and for one message but for ``jetstream``."""

    subject: Annotated[
        str | None,
        Meta(
            pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$",
            max_length=1000,
            description="words with dots, no wildcards; the channel's name when not given",
        ),
    ] = None
    jetstream: Annotated[
        bool, per_channel("a stream has it before a message is ok; false: core NATS, nobody keeps it")
    ] = True
    stream: Annotated[
        str | None, Meta(min_length=1, description="the stream that must take it; another one refuses it")
    ] = None


def _check_url(url: str) -> None:
    """Raise ``ValueError`` without the URL in its text: it may hold a password."""
    try:
        parts = urlsplit(url)
        known, _ = parts.scheme in ("nats", "tls") and bool(parts.hostname), parts.port
    except ValueError:
        known = False
    if not known:
        raise ValueError("a URL must look like nats://user:password@host:4222, or tls://...")
