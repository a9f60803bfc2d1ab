"""This module opens the socket to a Redis server that a connection's table describes."""

from __future__ import annotations

import socket
import ssl
from typing import Annotated, Any, NamedTuple

import msgspec
import redis.connection
from msgspec import Meta

from rambla_py.errors import AccessError
from rambla_py.handler import Secret, secret_text
from rambla_py.handlers.redis.commands import MAX_BULK_BYTES
from rambla_py.handlers.redis.errors import connect_error

__all__ = ["Address", "RedisConnection", "RedisTls", "address_of", "open_socket"]


class RedisTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How TLS is done; the system's authorities are trusted unless ``ca_file`` names others."""

    ca_file: Annotated[str | None, Meta(description="PEM file of the authorities to trust")] = None
    cert_file: Annotated[str | None, Meta(description="PEM file of the client's certificate")] = None
    key_file: Annotated[str | None, Meta(description="PEM file of the client's key")] = None
    server_name: Annotated[
        str | None, Meta(description="name that the server's certificate must have; the host when not given")
    ] = None
    verify: Annotated[bool, Meta(description="false: take any certificate; for tests only")] = True


class RedisConnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``redis`` connection: a ``url``, or its parts.

    >>> RedisConnection(host="cache.internal", password=Secret("hunter2")).password
    ***
    """

    url: Annotated[
        Secret | None,
        Meta(description="redis://, rediss:// (TLS) or unix:///path, with user, password and database"),
    ] = None
    host: Annotated[str | None, Meta(description="host name or address; localhost when not given")] = None
    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port")] = 6379
    username: Annotated[str | None, Meta(description="ACL user; the default user when not given")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    database: Annotated[int, Meta(ge=0, description="number of the database")] = 0
    tls: Annotated[bool | RedisTls, Meta(description="true, or a table, for TLS")] = False
    connect_timeout_s: Annotated[
        float, Meta(gt=0, description="bound of connecting, and of each answer of the handshake")
    ] = 5.0
    read_timeout_s: Annotated[
        float, Meta(gt=0, description="longest silence of the server while an answer is due")
    ] = 10.0
    max_bulk_bytes: Annotated[
        int, Meta(ge=1, description="largest value sent; the server's proto-max-bulk-len")
    ] = MAX_BULK_BYTES

    def __post_init__(self) -> None:
        if self.url is not None and self.host is not None:
            raise ValueError("both url and host; give one of them")
        _url_parts(secret_text(self.url))


class Address(NamedTuple):
    """Where a server is and who asks, with the URL taken apart; ``path`` is a Unix socket's."""

    host: str
    port: int
    path: str | None
    username: str | None
    password: Secret | None
    database: int
    tls: RedisTls | None

    @property
    def where(self) -> str:
        """The server's name for people, without credentials."""
        return f"redis at {self.path or f'{self.host}:{self.port}'}"


_URL_PARTS = frozenset({"host", "port", "path", "username", "password", "db", "connection_class"})


def address_of(settings: RedisConnection) -> Address:
    """Return the address that a connection's table gives; what the URL says wins over the single fields."""
    parts = _url_parts(secret_text(settings.url))
    tls = settings.tls if isinstance(settings.tls, RedisTls) else RedisTls() if settings.tls else None
    if parts.get("connection_class") is redis.connection.SSLConnection:
        tls = tls or RedisTls()
    password = parts.get("password")
    return Address(
        host=parts.get("host", settings.host or "localhost"),
        port=parts.get("port", settings.port),
        path=parts.get("path"),
        username=parts.get("username", settings.username),
        password=settings.password if password is None else Secret(password),
        database=parts.get("db", settings.database),
        tls=tls,
    )


def _url_parts(url: str | None) -> dict[str, Any]:
    """Return what redis-py reads in a URL; raises ``ValueError`` that quotes nothing of it."""
    if url is None:
        return {}
    try:
        parts: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        # From None: the cause may quote a part of the password, where that holds a slash.
        raise ValueError("a url that is not redis://..., rediss://... or unix:///path") from None
    unknown = sorted(set(parts) - _URL_PARTS)
    if unknown:
        raise ValueError(f"a url with parameters that are not known: {', '.join(unknown)}")
    return parts


def open_socket(address: Address, *, timeout_s: float) -> socket.socket:
    """Connect, with TLS where the address says so; raises ``ConnectionLostError`` or ``AccessError``."""
    context = _context(address.tls) if address.tls is not None else None
    try:
        plain = _connected(address, timeout_s)
        try:
            return plain if context is None else _secured(plain, context, address)
        except BaseException:
            plain.close()
            raise
    except OSError as error:
        raise connect_error(error, address.where, timeout_s=timeout_s) from error


def _connected(address: Address, timeout_s: float) -> socket.socket:
    if address.path is None:
        plain = socket.create_connection((address.host, address.port), timeout=timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return plain
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    plain.settimeout(timeout_s)
    try:
        plain.connect(address.path)
    except BaseException:
        plain.close()
        raise
    return plain


def _secured(plain: socket.socket, context: ssl.SSLContext, address: Address) -> socket.socket:
    assert address.tls is not None
    return context.wrap_socket(plain, server_hostname=address.tls.server_name or address.host)


def _context(tls: RedisTls) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:
        raise AccessError(f"cannot read the files of the connection's tls: {error}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
