"""The case of Redis: entries of 256 bytes into a stream."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import hiredis
import redis

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, publish_confirmed, rate, stopwatch

__all__ = ["REDIS", "redis_app", "redis_stream"]

BODY = b"x" * 256


@contextmanager
def redis_stream(context: Context, count: int) -> Iterator[tuple[redis.Redis, str]]:
    """Name a stream; at the end check that ``count`` entries are in it, and delete it."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with redis.Redis.from_url(context.servers["redis"]) as client:
        client.ping()
        yield client, name
        found = client.xlen(name)
        client.delete(name)
    assert found == count, f"the stream holds {found} entries, not {count}"


def redis_app(context: Context, name: str) -> rambla.Rambla:
    """Return an app with one channel, ``orders``, into that stream."""
    table = {
        "redis": {
            "connections": {"local": {"url": context.servers["redis"]}},
            "channels": {
                "orders": {"max_pending": 1_000_000, "options": {"command": "xadd", "stream": name}}
            },
        }
    }
    return rambla.Rambla(table)


def _rambla(context: Context) -> Figures:
    count = context.count(200_000)
    with redis_stream(context, count + 1) as (_, name), redis_app(context, name) as app:
        return rate(count, publish_confirmed(app, "orders", BODY, count))


def _single(context: Context) -> Figures:
    count = context.count(20_000)
    with redis_stream(context, count) as (client, name), stopwatch() as watch:
        for _ in range(count):
            client.xadd(name, {"payload": BODY})
    return rate(count, watch)


def _pipeline(context: Context) -> Figures:
    count, size = context.count(100_000) // 500 * 500, 500
    with redis_stream(context, count) as (client, name), stopwatch() as watch:
        for _ in range(count // size):
            pipeline = client.pipeline(transaction=False)
            for _ in range(size):
                pipeline.xadd(name, {"payload": BODY})
            pipeline.execute()
    return rate(count, watch)


def _bare(context: Context) -> Figures:
    """Pack with hiredis, write a batch at once, and read its replies."""
    count, size = context.count(200_000) // 500 * 500, 500
    with redis_stream(context, count) as (client, name):
        connection = client.connection_pool.get_connection()
        sock: Any = connection._sock
        reader, pack = hiredis.Reader(), cast(Any, hiredis.pack_command)
        with stopwatch() as watch:
            for _ in range(count // size):
                packed = [pack(("XADD", name, "*", "payload", BODY)) for _ in range(size)]
                sock.sendall(b"".join(packed))
                left = size
                while left:
                    reader.feed(sock.recv(65_536))
                    while left and reader.gets() is not False:
                        left -= 1
        client.connection_pool.release(connection)
        return rate(count, watch)


REDIS = Case(
    name="redis",
    title="Redis: XADD of 256 bytes, each with its own reply",
    servers=("redis",),
    contenders={
        "rambla": _rambla,
        "hiredis on a bare socket, batches of 500": _bare,
        "redis-py, pipelines of 500": _pipeline,
        "redis-py, one by one": _single,
    },
    goals=(
        Goal("rambla / pipelines of 500 (at least 2.2)", "rambla", "redis-py, pipelines of 500", least=2.2),
        Goal(
            "rambla / hiredis on a bare socket (at least 0.85)",
            "rambla",
            "hiredis on a bare socket, batches of 500",
            least=0.85,
        ),
        Goal("rambla / single calls (at least 10)", "rambla", "redis-py, one by one", least=10),
    ),
)
