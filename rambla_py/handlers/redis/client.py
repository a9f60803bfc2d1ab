"""This module makes the redis-py client that callable payloads are given."""

from __future__ import annotations

import socket
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rambla_py.handler import secret_text
from rambla_py.handlers.redis.connection import Address, RedisConnection, open_socket

__all__ = ["client_for"]


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
