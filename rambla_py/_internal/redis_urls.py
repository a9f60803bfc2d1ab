"""URLs of Redis servers, clusters and sentinels."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import redis.connection

from rambla_py._internal.host_names import ascii_host
from rambla_py._internal.urls import check_url

__all__ = ["CLUSTER_PORT", "SENTINEL_PORT", "Node", "UrlParts", "node_of", "parts_of"]

CLUSTER_PORT = 6379
SENTINEL_PORT = 26379

_KNOWN = frozenset({"host", "port", "path", "username", "password", "db", "connection_class"})


class Node(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UrlParts(NamedTuple):
    """The parts of a URL: ``known`` is what redis-py parses, ``nodes`` are cluster nodes or sentinels."""

    kind: Literal["plain", "cluster", "sentinel"] = "plain"
    known: dict[str, Any] = {}  # noqa: RUF012  # never modified
    nodes: tuple[Node, ...] = ()
    master: str | None = None


def node_of(text: str, default_port: int) -> Node:
    """Return the node that ``host``, ``host:port`` or ``[address]:port`` names; raises ``ValueError``.

    >>> node_of("cache-1", 6379), node_of("[::1]:7000", 6379)
    (Node(host='cache-1', port=6379), Node(host='::1', port=7000))
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.username is not None or parts.path or parts.query:
        # Not quoted: it may be a URL with a password in it.
        raise ValueError("a node that is not host, host:port or [address]:port")
    return Node(ascii_host(host), default_port if port is None else port)


def parts_of(url: str | None, *, parameters: Collection[str] = ()) -> UrlParts:
    """Return the parts of a URL; raises ``ValueError`` that quotes nothing of it.

    ``parameters`` are names that redis-py knows and that the query may set, beside those of ``known``.
    """
    if url is None:
        return UrlParts()
    check_url(url, at_in_path=url.lower().startswith("unix:"))
    scheme, separator, rest = url.partition("://")
    family, _, kind = scheme.lower().partition("+")
    if kind == "cluster":
        return _of_many(family, rest, CLUSTER_PORT, parameters)
    if kind == "sentinel":
        return _of_sentinels(family, rest, parameters)
    return UrlParts(known=_read(f"{scheme.lower()}{separator}{rest}", parameters))


def _of_many(family: str, rest: str, default_port: int, parameters: Collection[str]) -> UrlParts:
    """Read ``user:password@host:port,host:port/database``."""
    place, slash, path = rest.partition("/")
    login, at, hosts = place.rpartition("@")
    nodes = tuple(node_of(text, default_port) for text in hosts.split(","))
    return UrlParts("cluster", _read(f"{family}://{login}{at}{nodes[0]}{slash}{path}", parameters), nodes)


def _of_sentinels(family: str, rest: str, parameters: Collection[str]) -> UrlParts:
    place, _, path = rest.partition("/")
    path, _, query = path.partition("?")
    master, _, database = path.partition("/")
    if not master:
        raise ValueError("a url without the master's name: redis+sentinel://host:port,host:port/master/0")
    rest = f"{place}/{database}" + (f"?{query}" if query else "")
    parts = _of_many(family, rest, SENTINEL_PORT, parameters)
    return parts._replace(kind="sentinel", master=unquote(master))


def _read(url: str, parameters: Collection[str]) -> dict[str, Any]:
    try:
        parts: dict[str, Any] = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    except ValueError:
        # From None: the cause may quote a part of the password, where that holds a slash.
        raise ValueError(
            "a url that is not redis://..., rediss://..., unix:///path, redis+cluster://... "
            "or redis+sentinel://..."
        ) from None
    unknown = sorted(set(parts) - _KNOWN - set(parameters))
    if unknown:
        raise ValueError(f"a url with parameters that are not known: {', '.join(unknown)}")
    if "host" in parts:
        parts["host"] = ascii_host(parts["host"])
    return parts
