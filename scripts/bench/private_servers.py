"""This module starts the private servers of the cases, on free ports of the loopback address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rambla_py.testing.servers import RabbitMqServer, RedisServer

__all__ = ["start"]


@contextmanager
def _rabbitmq() -> Iterator[str]:
    with RabbitMqServer() as server:
        yield f"amqp://guest:guest@{server.host}:{server.port}/%2F"


@contextmanager
def _redis() -> Iterator[str]:
    with RedisServer() as server:
        yield f"redis://{server.host}:{server.port}/0"


_SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {"rabbitmq": _rabbitmq, "redis": _redis}


def start(name: str) -> AbstractContextManager[str]:
    """Start a server by name; the context gives its address and stops it."""
    return _SERVERS[name]()
