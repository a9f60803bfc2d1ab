"""The cases of HTTP and ClickHouse: events to a local server that counts them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import importlib
import urllib.parse
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, publish_confirmed, rate, stopwatch
from rambla_py.handlers._http.compression import compressed

__all__ = ["CLICKHOUSE", "HTTP"]

EVENT = {"id": 42, "text": "x" * 231}
BODY = b'{"id":42,"text":"' + b"x" * 231 + b'"}'


def _taken(context: Context, count: int) -> None:
    """Check what the server counted since the last time."""
    with urllib.request.urlopen(f"{context.servers['http']}/taken") as answer:
        events, size = map(int, answer.read().split())
    assert events == count, f"the server took {events} events, not {count}"
    assert size == count * len(BODY), f"the server took {size} bytes, not {count * len(BODY)}"


def _rambla(usual: int, **options: Any) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(usual)
        table = {
            "http": {
                "connections": {"local": {"url": f"{context.servers['http']}/in"}},
                "channels": {"events": {"max_pending": 1_000_000, "options": options}},
            }
        }
        with rambla.Rambla(table) as app:
            watch = publish_confirmed(app, "events", EVENT, count)
        _taken(context, count + 1)
        return rate(count, watch)

    return run


def _one_by_one(
    usual: int, library: str, client: Callable[[Any], Any], send: Callable[[Any, str], Any]
) -> Callable[[Context], Figures]:
    """Measure a library whose client sends a request when the one before has its answer."""

    def run(context: Context) -> Figures:
        module: Any = importlib.import_module(library)
        count, url = context.count(usual), f"{context.servers['http']}/in"
        with client(module) as opened, stopwatch() as watch:
            for _ in range(count):
                send(opened, url)
        _taken(context, count)
        return rate(count, watch)

    return run


def _at_once(
    usual: int,
    at_once: int,
    library: str,
    client: Callable[[Any], Any],
    send: Callable[[Any, str], Coroutine[Any, Any, None]],
) -> Callable[[Context], Figures]:
    """Measure a library whose client sends so many requests at a time."""

    async def measured(module: Any, count: int, url: str) -> Figures:
        async with client(module) as opened:
            with stopwatch() as watch:
                for _ in range(count // at_once):
                    await asyncio.gather(*(send(opened, url) for _ in range(at_once)))
        return rate(count, watch)

    def run(context: Context) -> Figures:
        module: Any = importlib.import_module(library)
        count = context.count(usual) // at_once * at_once
        figures = asyncio.run(measured(module, count, f"{context.servers['http']}/in"))
        _taken(context, count)
        return figures

    return run


async def _send_with_aiohttp(client: Any, url: str) -> None:
    async with client.post(url, data=BODY) as answer:
        answer.raise_for_status()


async def _send_with_pyreqwest(client: Any, url: str) -> None:
    await client.post(url).body_bytes(BODY).build().send()


_httpx = _one_by_one(
    2_000,
    "httpx",
    lambda module: module.Client(),
    lambda client, url: client.post(url, content=BODY).raise_for_status(),
)

HTTP = Case(
    name="http",
    title="HTTP: events of 250 bytes, each with its own outcome",
    servers=("http",),
    contenders={
        "rambla, a request each": _rambla(10_000),
        "rambla, in batches": _rambla(100_000, body_format="batch"),
        "pyreqwest, one after the other": _one_by_one(
            10_000,
            "pyreqwest.client",
            lambda module: module.SyncClientBuilder().build(),
            lambda client, url: client.post(url).body_bytes(BODY).build().send().error_for_status(),
        ),
        "pyreqwest, 100 at a time": _at_once(
            10_000,
            100,
            "pyreqwest.client",
            lambda module: module.ClientBuilder().build(),
            _send_with_pyreqwest,
        ),
        "aiohttp, 50 at a time": _at_once(
            5_000, 50, "aiohttp", lambda module: module.ClientSession(), _send_with_aiohttp
        ),
        "httpx": _httpx,
        "requests": _one_by_one(
            1_500,
            "requests",
            lambda module: module.Session(),
            lambda client, url: client.post(url, data=BODY).raise_for_status(),
        ),
    },
    goals=(
        Goal("a request each / httpx (at least 7)", "rambla, a request each", "httpx", least=7),
        Goal(
            "a request each / pyreqwest, 100 at a time (at least 1.2)",
            "rambla, a request each",
            "pyreqwest, 100 at a time",
            least=1.2,
        ),
        Goal(
            "a request each / pyreqwest, one after the other",
            "rambla, a request each",
            "pyreqwest, one after the other",
        ),
        Goal("in batches / httpx (at least 40)", "rambla, in batches", "httpx", least=40),
    ),
)


def _clickhouse(context: Context) -> Figures:
    count, url = context.count(100_000), context.servers["clickhouse"]
    _fresh(context)
    table = {
        "clickhouse": {
            "connections": {"local": {"url": url}},
            "channels": {"events": {"max_pending": 1_000_000, "options": {"table": "default.bench"}}},
        }
    }
    with rambla.Rambla(table) as app:
        app.publish("events", EVENT).result(timeout_s=10)
        with stopwatch() as watch:
            for _ in range(count):
                app.publish("events", EVENT)
            app.flush()
    _check_rows(context, count + 1)
    return rate(count, watch)


def _bare_rows(context: Context) -> Figures:
    """Insert the same rows by hand, 500 in a request, in the form that ours sends them."""
    count, size = context.count(100_000) // 500 * 500, 500
    _fresh(context)
    address = urllib.parse.urlsplit(context.servers["clickhouse"])
    assert address.hostname is not None
    client = http.client.HTTPConnection(address.hostname, address.port)
    path = "/?" + urllib.parse.urlencode({"query": "INSERT INTO default.bench FORMAT JSONEachRow"})
    with contextlib.closing(client), stopwatch() as watch:
        for _ in range(count // size):
            rows = b"\n".join([msgspec.json.encode(EVENT) for _ in range(size)])
            client.request("POST", path, compressed(rows, "gzip"), {"content-encoding": "gzip"})
            answer = client.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
    _check_rows(context, count)
    return rate(count, watch)


def _fresh(context: Context) -> None:
    _ask(context.servers["clickhouse"], "DROP TABLE IF EXISTS bench")
    columns = "(id Int32, text String) ENGINE = MergeTree ORDER BY id"
    _ask(context.servers["clickhouse"], f"CREATE TABLE bench {columns}")


def _check_rows(context: Context, count: int) -> None:
    found = _ask(context.servers["clickhouse"], "SELECT count(), sum(length(text)) FROM bench")
    assert found.split() == [str(count), str(count * 231)], found


def _ask(url: str, query: str) -> str:
    with urllib.request.urlopen(url, data=query.encode()) as answer:
        return str(answer.read().decode())


CLICKHOUSE = Case(
    name="clickhouse",
    title="ClickHouse: rows of 250 bytes, one request a batch, beside one event a request to a local server",
    servers=("clickhouse", "http"),
    contenders={
        "rambla to ClickHouse": _clickhouse,
        "http.client, 500 rows a request": _bare_rows,
        "httpx, one event a request": _httpx,
    },
    goals=(
        Goal(
            "rows / the same batches by hand (at least 0.9)",
            "rambla to ClickHouse",
            "http.client, 500 rows a request",
            least=0.9,
        ),
        Goal("rows / httpx (at least 40)", "rambla to ClickHouse", "httpx, one event a request", least=40),
    ),
)
