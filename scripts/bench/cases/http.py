"""This module holds the cases of HTTP and ClickHouse: events to a local server that counts them."""

from __future__ import annotations

import asyncio
import importlib
import urllib.request
from collections.abc import Callable
from typing import Any

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, rate, stopwatch

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
            app.publish("events", EVENT).result(timeout_s=10)
            with stopwatch() as watch:
                receipts = [app.publish("events", EVENT) for _ in range(count)]
                app.flush()
            assert all(receipt.level == "confirmed" for receipt in receipts)
        _taken(context, count + 1)
        return rate(count, watch)

    return run


def _httpx(context: Context) -> Figures:
    httpx: Any = importlib.import_module("httpx")
    count, url = context.count(2_000), f"{context.servers['http']}/in"
    with httpx.Client() as client, stopwatch() as watch:
        for _ in range(count):
            client.post(url, content=BODY).raise_for_status()
    _taken(context, count)
    return rate(count, watch)


def _requests(context: Context) -> Figures:
    requests: Any = importlib.import_module("requests")
    count, url = context.count(1_500), f"{context.servers['http']}/in"
    with requests.Session() as client, stopwatch() as watch:
        for _ in range(count):
            client.post(url, data=BODY).raise_for_status()
    _taken(context, count)
    return rate(count, watch)


def _aiohttp(context: Context) -> Figures:
    aiohttp: Any = importlib.import_module("aiohttp")
    count, at_once = context.count(5_000) // 50 * 50, 50

    async def run() -> Figures:
        async with aiohttp.ClientSession() as client:

            async def send() -> None:
                async with client.post(f"{context.servers['http']}/in", data=BODY) as answer:
                    answer.raise_for_status()

            with stopwatch() as watch:
                for _ in range(count // at_once):
                    await asyncio.gather(*(send() for _ in range(at_once)))
        return rate(count, watch)

    figures = asyncio.run(run())
    _taken(context, count)
    return figures


def _pyreqwest(context: Context) -> Figures:
    client_module: Any = importlib.import_module("pyreqwest.client")
    count, url = context.count(10_000), f"{context.servers['http']}/in"
    with client_module.SyncClientBuilder().build() as client, stopwatch() as watch:
        for _ in range(count):
            client.post(url).body_bytes(BODY).build().send().error_for_status()
    _taken(context, count)
    return rate(count, watch)


def _pyreqwest_at_once(context: Context) -> Figures:
    client_module: Any = importlib.import_module("pyreqwest.client")
    count, at_once = context.count(10_000) // 100 * 100, 100

    async def run() -> Figures:
        async with client_module.ClientBuilder().build() as client:

            async def send() -> None:
                await client.post(f"{context.servers['http']}/in").body_bytes(BODY).build().send()

            with stopwatch() as watch:
                for _ in range(count // at_once):
                    await asyncio.gather(*(send() for _ in range(at_once)))
        return rate(count, watch)

    figures = asyncio.run(run())
    _taken(context, count)
    return figures


HTTP = Case(
    name="http",
    title="HTTP: events of 250 bytes, each with its own outcome",
    servers=("http",),
    contenders={
        "rambla, a request each": _rambla(10_000),
        "rambla, in batches": _rambla(100_000, body_format="batch"),
        "pyreqwest, one after the other": _pyreqwest,
        "pyreqwest, 100 at a time": _pyreqwest_at_once,
        "aiohttp, 50 at a time": _aiohttp,
        "httpx": _httpx,
        "requests": _requests,
    },
    goals=(
        Goal("a request each / httpx (at least 6)", "rambla, a request each", "httpx", least=6),
        Goal(
            "a request each / pyreqwest alone (at least 0.9)",
            "rambla, a request each",
            "pyreqwest, one after the other",
            least=0.9,
        ),
        Goal("in batches / httpx (at least 40)", "rambla, in batches", "httpx", least=40),
    ),
)


def _clickhouse(context: Context) -> Figures:
    count, url = context.count(100_000), context.servers["clickhouse"]
    _ask(url, "DROP TABLE IF EXISTS bench")
    _ask(url, "CREATE TABLE bench (id Int32, text String) ENGINE = MergeTree ORDER BY id")
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
    rows, size = map(int, _ask(url, "SELECT count(), sum(length(text)) FROM bench").split())
    assert (rows, size) == (count + 1, (count + 1) * 231), (rows, size)
    return rate(count, watch)


def _ask(url: str, query: str) -> str:
    with urllib.request.urlopen(url, data=query.encode()) as answer:
        return str(answer.read().decode())


CLICKHOUSE = Case(
    name="clickhouse",
    title="ClickHouse: rows of 250 bytes, one request a batch, beside one event a request to a local server",
    servers=("clickhouse", "http"),
    contenders={"rambla to ClickHouse": _clickhouse, "httpx, one event a request": _httpx},
    goals=(
        Goal("rows / httpx (at least 40)", "rambla to ClickHouse", "httpx, one event a request", least=40),
    ),
)
