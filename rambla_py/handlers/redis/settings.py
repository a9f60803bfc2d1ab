"""The table of a ``redis`` connection: one server, a cluster, or a master that sentinels name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import msgspec
import redis.connection
from msgspec import Meta

from rambla_py._internal.host_names import ascii_host
from rambla_py._internal.redis_urls import CLUSTER_PORT, SENTINEL_PORT, Node, UrlParts, node_of, parts_of
from rambla_py._internal.tls import TlsTable, tls_table
from rambla_py.handler import Secret, secret_text
from rambla_py.handlers.redis.encode import MAX_BULK_BYTES

__all__ = ["Address", "RedisSettings", "address_of", "kind_of", "nodes_of", "sentinels_of"]


class RedisSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``redis`` connection: a ``url``, or its parts.

    >>> RedisSettings(host="cache.internal", password=Secret("hunter2")).password
    ***
    """

    url: Annotated[
        Secret | None,
        Meta(
            description="redis://, rediss:// (TLS) or unix:///path, with user, password and database; "
            "redis+cluster://host:port,host:port; redis+sentinel://host:port,host:port/master/database; "
            "rediss+... for TLS"
        ),
    ] = None
    host: Annotated[str | None, Meta(description="host name or address; localhost when not given")] = None
    port: Annotated[int, Meta(ge=1, le=65535, description="TCP port")] = 6379
    username: Annotated[str | None, Meta(description="ACL user; the default user when not given")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    database: Annotated[int, Meta(ge=0, description="number of the database; a cluster has 0 only")] = 0
    tls: Annotated[bool | TlsTable, Meta(description="true, or a table, for TLS")] = False
    cluster: Annotated[
        bool | list[str],
        Meta(
            description="true: the server is a node of a cluster; or some of its nodes, as host:port; "
            "the others are discovered"
        ),
    ] = False
    sentinels: Annotated[
        list[str], Meta(description="sentinels to ask where the master is, as host:port")
    ] = []
    master: Annotated[str | None, Meta(description="name of the master at the sentinels")] = None
    sentinel_username: Annotated[str | None, Meta(description="ACL user at the sentinels")] = None
    sentinel_password: Annotated[
        Secret | None, Meta(description="password at the sentinels; none when not given")
    ] = None
    sentinel_tls: Annotated[
        bool | TlsTable | None, Meta(description="TLS to the sentinels; as tls when not given")
    ] = None
    wait_replicas: Annotated[
        int,
        Meta(
            ge=0,
            description="ok only once this many replicas have the write too (WAIT); 0: the master is enough",
        ),
    ] = 0
    wait_timeout_s: Annotated[
        float, Meta(gt=0, le=1e9, description="how long the replicas may take; less than read_timeout_s")
    ] = 1.0
    connect_timeout_s: Annotated[
        float, Meta(gt=0, le=1e9, description="bound of connecting, and of each answer of the handshake")
    ] = 5.0
    read_timeout_s: Annotated[
        float, Meta(gt=0, le=1e9, description="longest silence of the server while an answer is due")
    ] = 10.0
    max_bulk_bytes: Annotated[
        int, Meta(ge=1, description="largest value sent; the server's proto-max-bulk-len")
    ] = MAX_BULK_BYTES

    def __post_init__(self) -> None:
        for problem in _conflicts(self, parts_of(secret_text(self.url))):
            raise ValueError(problem)
        address_of(self)


class Address(NamedTuple):
    """The address and login of one server; ``path`` is that of a Unix socket."""

    host: str
    port: int
    path: str | None
    username: str | None
    password: Secret | None
    database: int
    tls: TlsTable | None
    kind: str = "redis"

    @property
    def node(self) -> Node:
        """Host and port alone."""
        return Node(self.host, self.port)

    @property
    def where(self) -> str:
        """The server's name for messages, without credentials."""
        return f"{self.kind} at {self.path or self.node}"


def kind_of(settings: RedisSettings) -> Literal["plain", "cluster", "sentinel"]:
    """Return what kind of deployment a connection's table describes."""
    if settings.sentinels:
        return "sentinel"
    return "cluster" if settings.cluster else parts_of(secret_text(settings.url)).kind


def address_of(settings: RedisSettings) -> Address:
    """Return the address in a connection's table; the URL takes precedence over the other fields.

    For a cluster it is that of a first node; with sentinels only its login is used.
    """
    known = parts_of(secret_text(settings.url)).known
    tls = tls_table(settings.tls)
    if known.get("connection_class") is redis.connection.SSLConnection:
        tls = tls or TlsTable()
    password = known.get("password")
    return Address(
        host=known.get("host") or ascii_host(settings.host or "localhost"),
        port=known.get("port", settings.port),
        path=known.get("path"),
        username=known.get("username", settings.username),
        password=settings.password if password is None else Secret(password),
        database=known.get("db", settings.database),
        tls=tls,
    )


def nodes_of(settings: RedisSettings) -> list[Node]:
    """Return the nodes of a cluster that its table names, in the order in which they are asked."""
    listed = settings.cluster if isinstance(settings.cluster, list) else []
    given = [node_of(text, CLUSTER_PORT) for text in listed]
    return given or list(parts_of(secret_text(settings.url)).nodes) or [address_of(settings).node]


def sentinels_of(settings: RedisSettings) -> tuple[str, list[Address]]:
    """Return the master's name, and the addresses of the sentinels with their own credentials."""
    parts = parts_of(secret_text(settings.url))
    nodes = [node_of(text, SENTINEL_PORT) for text in settings.sentinels] or list(parts.nodes)
    tls = address_of(settings).tls if settings.sentinel_tls is None else tls_table(settings.sentinel_tls)
    login = Address(
        host="",
        port=0,
        path=None,
        username=settings.sentinel_username,
        password=settings.sentinel_password,
        database=0,
        tls=tls,
        kind="sentinel",
    )
    name = parts.master or settings.master or ""
    return name, [login._replace(host=node.host, port=node.port) for node in nodes]


def _conflicts(settings: RedisSettings, parts: UrlParts) -> Iterator[str]:
    """Yield conflicts between fields; the messages quote no value, which may be secret."""
    listed = isinstance(settings.cluster, list)
    kinds = {"url": settings.url, "host": settings.host}
    elsewhere = [name for name, value in kinds.items() if value is not None]
    if len(elsewhere) > 1:
        yield "both url and host; give one of them"
    if settings.cluster == []:
        yield "cluster = [], which names no node; list some, or set true with host or url"
    if listed and elsewhere:
        yield f"both {elsewhere[0]} and a list of nodes in cluster; give one of them"
    if settings.sentinels and elsewhere:
        yield f"both {elsewhere[0]} and sentinels, which name the master; give one of them"
    if settings.cluster and (settings.sentinels or parts.kind == "sentinel"):
        yield "both cluster and sentinels; a cluster fails over by itself"
    if parts.kind == "sentinel" and settings.master:
        yield "both master and a url with the master's name; give one of them"
    if settings.sentinels and not settings.master:
        yield "sentinels without master, its name at the sentinels"
    if settings.master and not settings.sentinels:
        yield "master without sentinels"
    yield from _wrong_for_clusters(settings, parts)
    for text in [*settings.sentinels, *(settings.cluster if isinstance(settings.cluster, list) else [])]:
        node_of(text, CLUSTER_PORT)
    if settings.wait_replicas and settings.wait_timeout_s >= settings.read_timeout_s:
        yield "a wait_timeout_s that is not less than read_timeout_s"


def _wrong_for_clusters(settings: RedisSettings, parts: UrlParts) -> Iterator[str]:
    if not settings.cluster and parts.kind != "cluster":
        return
    if parts.known.get("path"):
        yield "cluster with a unix socket; the other nodes are connected to by host and port"
    if parts.known.get("db", settings.database):
        yield "a database other than 0, which a cluster does not have"
