"""redis-py clients for callable payloads.

Replaces one private part of redis-py, ``Connection._connect``; a test fails by name when it is gone.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import redis
import redis.cluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from rambla_py._internal.redis_urls import Node
from rambla_py._internal.tls import TlsTable
from rambla_py.handler import secret_text
from rambla_py.handlers.redis.raw_socket import open_socket, socket_timeout
from rambla_py.handlers.redis.settings import Address, RedisSettings, address_of

__all__ = ["client_for", "cluster_client_for"]


class _DriverConnection(redis.Connection):
    """A connection of redis-py over a socket that is opened as ours are: TLS, names and time-outs alike."""

    def __init__(self, *, address: Address, connect_timeout_s: float, **options: Any) -> None:
        super().__init__(host=address.host, port=address.port, **options)  # type: ignore[no-untyped-call]
        self._address = address
        self._connect_timeout_s = connect_timeout_s

    def _connect(self) -> socket.socket:
        opened = open_socket(self._address, timeout_s=self._connect_timeout_s)
        opened.settimeout(self.socket_timeout)
        return opened


def client_for(address: Address, settings: RedisSettings) -> redis.Redis:
    """Return a client that connects at its first command and never retries."""
    pool = redis.ConnectionPool(
        connection_class=_DriverConnection,
        address=address,
        connect_timeout_s=settings.connect_timeout_s,
        socket_timeout=socket_timeout(settings.read_timeout_s),
        db=address.database,
        username=address.username,
        password=secret_text(address.password),
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis.from_pool(pool)


def cluster_client_for(settings: RedisSettings, nodes: Sequence[Node]) -> redis.RedisCluster:
    """Return a client for a cluster; it asks these nodes for the others at once.

    redis-py compares certificates with the host that it connects to, and ignores ``tls.server_name``.
    """
    login = address_of(settings)
    return redis.RedisCluster(
        startup_nodes=[
            redis.cluster.ClusterNode(node.host, node.port)  # type: ignore[no-untyped-call]
            for node in nodes
        ],
        username=login.username,
        password=secret_text(login.password),
        socket_connect_timeout=socket_timeout(settings.connect_timeout_s),
        socket_timeout=socket_timeout(settings.read_timeout_s),
        **_tls_arguments(login.tls),
    )


def _tls_arguments(tls: TlsTable | None) -> dict[str, Any]:
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
