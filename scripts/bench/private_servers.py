"""This module starts the private servers of the cases, on free ports of the loopback address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rambla_py.testing.servers import RabbitMqServer, RedisServer

__all__ = ["start"]


@contextmanager
def _rabbitmq() -> Iterator[dict[str, str]]:
    with RabbitMqServer() as server:
        url = f"amqp://guest:guest@{server.host}:{server.port}/%2F"
        yield {"rabbitmq": url, "rabbitmq pid": str(server.pid)}


@contextmanager
def _redis() -> Iterator[dict[str, str]]:
    with RedisServer() as server:
        yield {"redis": f"redis://{server.host}:{server.port}/0"}


_SERVERS: dict[str, Callable[[], AbstractContextManager[dict[str, str]]]] = {
    "rabbitmq": _rabbitmq,
    "redis": _redis,
}


def start(name: str) -> AbstractContextManager[dict[str, str]]:
    """Start a server by name; the context gives its addresses by name, and stops it."""
    return _SERVERS[name]()
