"""The steady soak: a process that publishes for long must not grow, and every message must be accounted for.

500 messages/s go to RabbitMQ, Redis and PostgreSQL; one in a hundred is refused by each of them, and each
connection is cut once a minute.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pika
import psycopg
import redis
from rich.console import Console
from rich.table import Table

from rambla_py.testing.databases import PostgresServer
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import RabbitMqServer, RedisServer
from soak.runs import SoakError, resident

__all__ = ["steady"]

_CUT_EVERY_S = 60.0
_LOOK_EVERY_S = 1.0
_WARM = 0.25
"""The share of the time after which nothing may grow any more."""
_MOST_GROWTH = 0.05
_QUEUE = "steady"


class _Look(NamedTuple):
    """What a process has at one moment."""

    resident: int
    threads: int
    descriptors: int


class _Backends:
    """The three servers, each behind a proxy, and which messages they hold."""

    def __init__(self, stack: ExitStack) -> None:
        self._rabbitmq = stack.enter_context(RabbitMqServer())
        self._redis = stack.enter_context(RedisServer())
        self._postgres = stack.enter_context(PostgresServer())
        servers = (self._rabbitmq, self._redis, self._postgres)
        self.proxies = [stack.enter_context(FaultProxy(server.host, server.port)) for server in servers]
        self._client = stack.enter_context(redis.Redis.from_url(self._redis.url))
        self._client.set("no-list", "a string")
        self._database = stack.enter_context(psycopg.connect(self._postgres.url, autocommit=True))
        self._database.execute(f"CREATE TABLE {_QUEUE} (id bigint NOT NULL, text text)")

    def config(self) -> dict[str, Any]:
        """Return the tables of an app that reaches them through their proxies."""
        amqp, redis_, sql = (proxy.address for proxy in self.proxies)
        login = f"{self._postgres.user}:{self._postgres.password}"
        url = f"postgresql+psycopg://{login}@{sql[0]}:{sql[1]}/{self._postgres.database}"
        declared = {"routing_key": _QUEUE, "declare": {"queue": {"name": _QUEUE}}}
        return {
            "amqp": _service({"host": amqp[0], "port": amqp[1]}, declared),
            "redis": _service({"host": redis_[0], "port": redis_[1]}, {"command": "rpush", "list": _QUEUE}),
            "sql": _service({"url": url}, {"table": _QUEUE, "columns": ["id", "text"]}),
        }

    def cut(self) -> None:
        """Cut every connection."""
        for proxy in self.proxies:
            proxy.cut()

    def held(self) -> dict[str, set[int]]:
        """Return the numbers of the messages that each of them holds."""
        rows = self._database.execute(f"SELECT id FROM {_QUEUE}").fetchall()
        return {
            "amqp.orders": set(_numbers(self._queued())),
            "redis.orders": set(_numbers(self._client.lrange(_QUEUE, 0, -1))),
            "sql.orders": {number for (number,) in rows},
        }

    def _queued(self) -> Iterator[bytes]:
        with pika.BlockingConnection(pika.URLParameters(self._rabbitmq.url)) as connection:
            for method, _, body in connection.channel().consume(
                _QUEUE, auto_ack=True, inactivity_timeout=3.0
            ):
                if method is None or body is None:
                    return
                yield body


def _service(connection: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    # Few retries: a loss of the connection spends none, and what is refused ends.
    retrying = {"retries": 3, "backoff": {"initial_s": 0.1, "max_s": 1.0}}
    channel = {"connection": "here", "max_pending": 100_000, "options": {**retrying, **options}}
    return {"connections": {"here": connection}, "channels": {"orders": channel}}


def _numbers(bodies: Any) -> Iterator[int]:
    return (json.loads(body)["id"] for body in bodies)


def steady(console: Console, minutes: float) -> None:
    """Publish for some minutes; raises ``SoakError`` if something grew, was lost, or does not add up."""
    console.rule(f"steady, {minutes:g} minutes")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rambla-soak-")))
        backends = _Backends(stack)
        with _publisher(backends.config(), folder / "log") as process:
            looks = _watch(process, backends, minutes * 60)
            process.terminate()
            report = json.loads(process.communicate(timeout=180)[0])
        _check_accounts(console, report, backends)
    _check_growth(console, looks)


@contextmanager
def _publisher(config: dict[str, Any], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = Path(__file__).with_name("steady_publisher.py")
    argv = [sys.executable, str(program), json.dumps(config)]
    with log.open("wb") as errors, subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            yield process
        except BaseException as error:
            process.kill()
            error.add_note(log.read_text()[-2_000:])
            raise


def _watch(process: subprocess.Popen[bytes], backends: _Backends, seconds: float) -> list[_Look]:
    """Look at the process each second, and cut its connections each minute, at the middle of it."""
    began, looks, cuts = time.monotonic(), list[_Look](), 0
    while (passed := time.monotonic() - began) < seconds:
        time.sleep(_LOOK_EVERY_S)
        if process.poll() is not None:
            raise SoakError("the publisher ended by itself")
        looks.append(_look(process.pid))
        if passed > (cuts + 0.5) * _CUT_EVERY_S:
            backends.cut()
            cuts += 1
    return looks


def _look(pid: int) -> _Look:
    folder = Path(f"/proc/{pid}")
    return _Look(resident(pid), len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir())))


def _check_accounts(console: Console, report: dict[str, Any], backends: _Backends) -> None:
    good = report["published"] - report["failing"]
    cuts = sum(proxy.cuts for proxy in backends.proxies)
    console.print(
        f"{report['published']:,} messages, {report['per_s']:.0f} a second, "
        f"{report['failing']:,} to be refused; {cuts} connections cut"
    )
    held = backends.held()
    wanted = {number for number in range(report["published"]) if number % 100 != 99}
    for name, audit in report["audits"].items():
        console.print(f"{name}: {audit['ok']:,} ok, {audit['fatal']:,} fatal, {len(held[name]):,} arrived")
        if (
            not audit["balanced"]
            or audit["pending"]
            or (audit["ok"], audit["fatal"]) != (good, report["failing"])
        ):
            raise SoakError(f"{name}: the accounts do not add up: {audit}")
        if held[name] != wanted:
            lost, strange = len(wanted - held[name]), len(held[name] - wanted)
            raise SoakError(f"{name}: {lost} messages were lost, {strange} arrived that should not")
    if not report["flushed"]:
        raise SoakError("not all was delivered within two minutes")


def _check_growth(console: Console, looks: list[_Look]) -> None:
    """Compare the medians of the first and of the last quarter of the time after the start."""
    warm = looks[int(len(looks) * _WARM) :]
    quarter = max(1, len(warm) // 4)
    first, last = (
        _Look(*map(statistics.median, zip(*part, strict=True))) for part in (warm[:quarter], warm[-quarter:])
    )
    table = Table("", "first", "last", "most")
    for name in _Look._fields:
        most = max(getattr(look, name) for look in looks)
        table.add_row(name, *(f"{value:,.0f}" for value in (getattr(first, name), getattr(last, name), most)))
    console.print(table)
    if last.resident > first.resident * (1 + _MOST_GROWTH):
        raise SoakError(f"memory grew by {last.resident / first.resident - 1:.1%}")
    if last.threads > first.threads or last.descriptors > first.descriptors:
        raise SoakError(f"threads or file descriptors grew from {first[1:]} to {last[1:]}")
