"""The private servers of the cases, on free ports of the loopback address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rambla_py.testing import PostgresServer, RabbitMqServer, RedisServer, SmtpServer
from rambla_py.testing.clickhouse_server import ClickHouseServer

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


@contextmanager
def _http() -> Iterator[dict[str, str]]:
    argv = [sys.executable, "-m", "bench.http_sink"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        try:
            yield {"http": f"http://127.0.0.1:{sink.stdout.readline().strip()}"}
        finally:
            sink.terminate()


def _by_url(name: str, server: Callable[[], Any]) -> Callable[[], AbstractContextManager[dict[str, str]]]:
    @contextmanager
    def run() -> Iterator[dict[str, str]]:
        with server() as running:
            yield {name: running.url}

    return run


@contextmanager
def _synced_postgres() -> Iterator[dict[str, str]]:
    """Its commits wait for the disk; those of the server of the tests do not."""
    with PostgresServer(config=("fsync = on",)) as server:
        yield {"postgres": server.url}


@contextmanager
def _smtp() -> Iterator[dict[str, str]]:
    with SmtpServer() as server:
        yield {"smtp": f"{server.host}:{server.port}"}


@contextmanager
def _kafka() -> Iterator[dict[str, str]]:
    """In a process of its own, as the other servers are."""
    code = (
        "from rambla_py.testing import KafkaCluster\n"
        "with KafkaCluster() as cluster:\n"
        "    print(cluster.servers, flush=True)\n"
        "    input()"
    )
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
        assert cluster.stdout is not None
        try:
            yield {"kafka": cluster.stdout.readline().strip()}
        finally:
            cluster.terminate()


_SERVERS: dict[str, Callable[[], AbstractContextManager[dict[str, str]]]] = {
    "rabbitmq": _rabbitmq,
    "redis": _redis,
    "http": _http,
    "clickhouse": _by_url("clickhouse", ClickHouseServer),
    "postgres": _by_url("postgres", PostgresServer),
    "synced postgres": _synced_postgres,
    "smtp": _smtp,
    "kafka": _kafka,
}


def start(name: str) -> AbstractContextManager[dict[str, str]]:
    """Start a server by name; the context gives its addresses by name, and stops it."""
    return _SERVERS[name]()
