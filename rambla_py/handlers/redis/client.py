"""This module makes the redis-py clients that callable payloads are given."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import redis
import redis.cluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from rambla_py.handler import secret_text
from rambla_py.handlers.redis.connection import open_socket
from rambla_py.handlers.redis.settings import Address, RedisConnection, RedisTls, address_of
from rambla_py.handlers.redis.urls import Node

__all__ = ["client_for", "cluster_client_for"]


class _SameRoad(redis.Connection):
    """A connection of redis-py over a socket that is opened as ours are: TLS, names and time-outs alike."""

    def __init__(self, *, address: Address, connect_timeout_s: float, **options: Any) -> None:
        super().__init__(host=address.host, port=address.port, **options)  # type: ignore[no-untyped-call]
        self._address = address
        self._connect_timeout_s = connect_timeout_s

    def _connect(self) -> socket.socket:
        opened = open_socket(self._address, timeout_s=self._connect_timeout_s)
        opened.settimeout(self.socket_timeout)
        return opened


def client_for(address: Address, settings: RedisConnection) -> redis.Redis:
    """Return a client that connects at its first command and never retries by itself."""
    pool = redis.ConnectionPool(
        connection_class=_SameRoad,
        address=address,
        connect_timeout_s=settings.connect_timeout_s,
        socket_timeout=settings.read_timeout_s,
        db=address.database,
        username=address.username,
        password=secret_text(address.password),
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis.from_pool(pool)


def cluster_client_for(settings: RedisConnection, nodes: Sequence[Node]) -> redis.RedisCluster:
    """Return a client of a cluster, which asks these nodes now for the others.

    redis-py compares certificates with the host that it connects to: ``tls.server_name`` has no part in it.
    """
    who = address_of(settings)
    return redis.RedisCluster(
        startup_nodes=[
            redis.cluster.ClusterNode(node.host, node.port)  # type: ignore[no-untyped-call]
            for node in nodes
        ],
        username=who.username,
        password=secret_text(who.password),
        socket_connect_timeout=settings.connect_timeout_s,
        socket_timeout=settings.read_timeout_s,
        **_tls_words(who.tls),
    )


def _tls_words(tls: RedisTls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    return {
        "ssl": True,
        "ssl_ca_certs": tls.ca_file,
        "ssl_certfile": tls.cert_file,
        "ssl_keyfile": tls.key_file,
        "ssl_check_hostname": tls.verify,
        "ssl_cert_reqs": "required" if tls.verify else "none",
    }
