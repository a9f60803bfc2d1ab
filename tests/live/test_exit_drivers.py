"""Each driver delivers what a program publishes at its end, where no thread can be started any more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from object_fixtures import KEYS
from object_worker import Bucket

_PROGRAM = """
import atexit, collections, json, sys, threading

receipts = []

def count():
    print(json.dumps(collections.Counter(receipt.outcomes()[0].status for receipt in receipts)))

atexit.register(count)  # hooks run in reverse: it counts when that of rambla_py has ended everything

def refuse(*arguments, **named):
    raise RuntimeError("can't create new thread at interpreter shutdown")

def no_more_threads():  # as Python 3.12 and later at the end
    threading._start_new_thread = threading._start_joinable_thread = refuse

threading._register_atexit(no_more_threads)

import rambla_py

when, payload, table = json.loads(sys.argv[1])
app = rambla_py.Rambla(table).start()

def publish():
    receipts.extend(app.publish("orders", payload) for _ in range(20))

publish() if when == "at the end" else atexit.register(publish)
"""

Made = tuple[str, dict[str, Any], dict[str, Any], Any]
"""A handler, the connection, the options, and a payload."""


def _server(request: pytest.FixtureRequest, name: str) -> dict[str, Any]:
    server = request.getfixturevalue(name)
    return {"host": server.host, "port": server.port}


def _amqp(request: pytest.FixtureRequest, name: str) -> Made:
    options = {"routing_key": name, "declare": {"queue": {"name": name, "exclusive": False}}}
    return "amqp", _server(request, "rabbitmq"), options, "x"


def _kombu(request: pytest.FixtureRequest, name: str) -> Made:
    url = request.getfixturevalue("rabbitmq").url
    return "kombu", {"url": url}, {"queue": name}, "x"


def _redis(request: pytest.FixtureRequest, name: str) -> Made:
    return "redis", _server(request, "redis_server"), {"command": "xadd", "stream": name}, "x"


def _nats(request: pytest.FixtureRequest, name: str) -> Made:
    url = request.getfixturevalue("nats_server").url
    return "nats", {"url": url}, {"subject": name, "jetstream": False}, "x"


def _kafka(request: pytest.FixtureRequest, name: str) -> Made:
    cluster = request.getfixturevalue("kafka_cluster")
    cluster.create_topic(name)
    return "kafka", {"servers": cluster.servers}, {"topic": name}, "x"


def _mqtt(request: pytest.FixtureRequest, name: str) -> Made:
    return "mqtt", _server(request, "mosquitto"), {"topic": name}, "x"


def _mqtt_once(request: pytest.FixtureRequest, name: str) -> Made:
    return "mqtt", _server(request, "mosquitto"), {"topic": name, "qos": 2}, "x"


def _http(request: pytest.FixtureRequest, name: str) -> Made:
    return "http", _server(request, "web_server"), {}, "x"


def _clickhouse(request: pytest.FixtureRequest, name: str) -> Made:
    server = request.getfixturevalue("clickhouse")
    server.query(f"CREATE TABLE `{name}` (n Int64) ENGINE = Memory")
    login = {"username": "shop", "password": "right"}
    return "clickhouse", {**_server(request, "clickhouse"), **login}, {"table": name}, {"n": 1}


def _smtp(request: pytest.FixtureRequest, name: str) -> Made:
    server = request.getfixturevalue("smtp_server")
    connection = {"relay": server.host, "port": server.port, "tls": "never", "from": "shop@example.com"}
    return "smtp", connection, {"to": "you@example.com"}, "x"


def _s3(request: pytest.FixtureRequest, name: str) -> Made:
    bucket: Bucket = request.getfixturevalue("bucket")
    settings = bucket.settings(secret_access_key=KEYS["secret_access_key"])
    return "objects", settings, {}, "x"


def _postgres(request: pytest.FixtureRequest, name: str) -> Made:
    options = {"table": name[-30:], "create_table": True, "columns": {"v": "payload"}}
    return "sql", {"url": request.getfixturevalue("postgres_server").url}, options, "x"


_DRIVERS = [
    _amqp, _kombu, _redis, _nats, _kafka, _mqtt, _mqtt_once, _http, _clickhouse, _smtp, _s3, _postgres
]  # fmt: skip
_NEED_THREADS = (_amqp, _nats, _kafka)


@pytest.mark.parametrize("made", _DRIVERS, ids=lambda made: made.__name__.strip("_"))
def test_what_is_published_at_the_end_is_delivered(
    made: Callable[..., Made], request: pytest.FixtureRequest, unique_name: str
) -> None:
    """The channel is still starting when the program ends, and starts no thread from then on."""
    assert _run("at the end", *made(request, unique_name)) == ('{"ok": 20}\n', "")


@pytest.mark.parametrize("made", _DRIVERS, ids=lambda made: made.__name__.strip("_"))
def test_a_channel_may_start_in_an_exit_hook(
    made: Callable[..., Made], request: pytest.FixtureRequest, unique_name: str
) -> None:
    """Drivers that need a thread of their own cannot; then every message is dropped, and the log says so."""
    # What cannot be delivered is waited for until the time-out of the exit.
    exit_timeout_s = 3 if made in _NEED_THREADS else 20
    output, log = _run("in an exit hook", *made(request, unique_name), exit_timeout_s=exit_timeout_s)
    if made in _NEED_THREADS:
        reason, total = log.splitlines()
        assert "can't create new thread" in reason
        assert (output, total) == ('{"dropped": 20}\n', "broker.orders: 20 not delivered (20 dropped)")
    else:
        assert (output, log) == ('{"ok": 20}\n', "")


def _run(
    when: str,
    handler: str,
    connection: dict[str, Any],
    options: dict[str, Any],
    payload: Any,
    *,
    exit_timeout_s: float = 20,
) -> tuple[str, str]:
    """Return how the messages ended, and the log."""
    channels = {"orders": {"connection": "main", "options": options}}
    service = {"handler": handler, "connections": {"main": connection}, "channels": channels}
    table = {"rambla": {"exit_timeout_s": exit_timeout_s}, "broker": service}
    command = [sys.executable, "-c", _PROGRAM, json.dumps([when, payload, table])]
    run = subprocess.run(command, check=True, timeout=60, capture_output=True, text=True)
    return run.stdout, run.stderr
