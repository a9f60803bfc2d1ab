"""A configured channel for each handler, for tests that count what its messages cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jitsu_server import KEY
from web_process import LOGIN

__all__ = ["CASES", "CostCase"]

TEXT = "x" * 200
EVENT: dict[str, Any] = {"n": 42, "text": TEXT}
_COLUMNS = {"n": "payload.n::bigint", "text": "payload.text::text"}


class CostCase(NamedTuple):
    """A handler with its tables, and the servers that they name.

    ``noise`` is how many more calls, system calls and switches for each message of a batch are no
    regression: few where one thread does all of the work. Where several do, the number of their wake-ups
    depends on the machine, and ``switches`` is False: they are not compared, as where a disk is waited for.
    """

    handler: str
    payload: Any
    options: Mapping[str, Any] = {}
    connection: Callable[[pytest.FixtureRequest], Mapping[str, Any]] = lambda request: {}
    sizes: tuple[int, ...] = (1, 50, 500)
    noise: float = 0.5
    switches: bool = True


def _of(name: str, **more: Any) -> Callable[[pytest.FixtureRequest], dict[str, Any]]:
    """Return a function that makes the connection of a server: its host and port, and more."""

    def connection(request: pytest.FixtureRequest) -> dict[str, Any]:
        server = request.getfixturevalue(name)
        return {"host": server.host, "port": server.port, **more}

    return connection


def _by_url(name: str) -> Callable[[pytest.FixtureRequest], dict[str, Any]]:
    return lambda request: {"url": request.getfixturevalue(name).url}


def _in_folder(url: str) -> Callable[[pytest.FixtureRequest], dict[str, Any]]:
    return lambda request: {"url": url.format(folder=request.getfixturevalue("tmp_path"))}


def _file(request: pytest.FixtureRequest) -> dict[str, Any]:
    folder: Path = request.getfixturevalue("tmp_path")
    return {"path": str(folder / "orders.jsonl")}


def _relay(request: pytest.FixtureRequest) -> dict[str, Any]:
    server = request.getfixturevalue("smtp_server")
    return {"relay": server.host, "port": server.port, "tls": "never", "from": "shop@example.com"}


def _kafka(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {"servers": request.getfixturevalue("kafka_cluster").servers}


def _postgres(request: pytest.FixtureRequest) -> dict[str, Any]:
    server = request.getfixturevalue("postgres_server")
    return {"url": server.url_at(server.host, server.port)}


def _clickhouse(request: pytest.FixtureRequest) -> dict[str, Any]:
    server = request.getfixturevalue("clickhouse")
    server.query("CREATE TABLE IF NOT EXISTS costs (n Int64, text String) ENGINE = MergeTree ORDER BY n")
    return {"host": server.host, "port": server.port, "username": "shop", "password": "right"}


_HTTP = _of("web_process", path="/in", auth={"username": LOGIN[0], "password": LOGIN[1]})
_ROWS = {"table": "costs", "columns": _COLUMNS, "create_table": True}

CASES: dict[str, CostCase] = {
    "amqp": CostCase(
        "amqp", TEXT, {"routing_key": "costs", "declare": {"queue": {"name": "costs"}}}, _by_url("rabbitmq")
    ),
    "clickhouse": CostCase("clickhouse", EVENT, {"table": "costs"}, _clickhouse, switches=False),
    "console": CostCase("console", EVENT),
    "file": CostCase("file", EVENT, connection=_file, switches=False),
    "http": CostCase("http", EVENT, connection=_HTTP, noise=40, sizes=(1, 50), switches=False),
    "http in batches": CostCase("http", EVENT, {"body_format": "batch"}, _HTTP, switches=False),
    "jitsu": CostCase(
        "jitsu",
        {"event": "Order", "n": 42},
        connection=_of("jitsu_process", write_key=KEY),
        switches=False,
    ),
    "kafka": CostCase("kafka", TEXT, {"topic": "costs"}, _kafka, noise=4, switches=False),
    "kombu": CostCase("kombu", TEXT, {"queue": "costs-kombu"}, _by_url("redis_server")),
    "memory": CostCase("memory", EVENT),
    "mqtt": CostCase("mqtt", TEXT, {"topic": "costs", "qos": 1}, _of("mosquitto"), noise=5, sizes=(1, 50)),
    "nats": CostCase("nats", TEXT, {"subject": "costs", "jetstream": False}, _by_url("nats_server")),
    "null": CostCase("null", EVENT),
    "objects": CostCase(
        "objects",
        EVENT,
        {"path": "{id}"},
        _in_folder("file://{folder}/objects"),
        noise=40,
        sizes=(1, 50),
        switches=False,
    ),
    "redis": CostCase("redis", TEXT, {"command": "xadd", "stream": "costs-redis"}, _by_url("redis_server")),
    "smtp": CostCase("smtp", {"to": "ann@example.com", "text": TEXT}, connection=_relay, sizes=(1, 50)),
    "sql on PostgreSQL": CostCase("sql", EVENT, _ROWS, _postgres),
    "sql on SQLite": CostCase("sql", EVENT, _ROWS, _in_folder("sqlite:///{folder}/costs.db"), switches=False),
    "state": CostCase("state", {"k": {"n": 1}}, connection=lambda request: {"url": "memory://"}, noise=0.9),
}
