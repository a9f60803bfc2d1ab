"""The cases of latency: messages that come at a steady rate, beside the driver called by hand at that rate.

A time is counted from the moment at which its message was due, so that a contender which falls behind shows
it. One after the other, each call returns with the broker's answer. Without waiting, ours publishes when a
message is due and notes its end in a callback; the driver's own call knows no other way than to wait.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
import pika

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal
from bench.cases import amqp, redis

__all__ = ["LATENCY_CASES"]

SLOW, QUICK = 200, 2_000
SECONDS = 8
_WARM = 50
BODY = b"x" * 256

Step = Callable[[], object]


def _due(count: int, per_s: int) -> Iterator[float]:
    """Yield the moments at which messages are due, each when it has come."""
    began = time.perf_counter()
    for number in range(count):
        due = began + number / per_s
        if (left := due - time.perf_counter()) > 0:
            time.sleep(left)
        yield due


def _one_by_one(step: Step, count: int, per_s: int) -> Figures:
    for _ in range(_WARM):
        step()
    taken = []
    for due in _due(count, per_s):
        step()
        taken.append(time.perf_counter() - due)
    return _percentiles(taken)


def _unwaited(app: rambla.Rambla, channel: str, payload: Any, count: int, per_s: int) -> Figures:
    for _ in range(_WARM):
        app.publish(channel, payload).result(timeout_s=30)
    taken: list[float] = []
    for due in _due(count, per_s):
        app.publish(channel, payload).add_done_callback(partial(_note, taken, due))
    app.flush()
    assert len(taken) == count, f"{len(taken)} of {count} ended"
    return _percentiles(taken)


def _note(taken: list[float], due: float, _receipt: rambla.Receipt) -> None:
    taken.append(time.perf_counter() - due)


def _percentiles(taken: list[float]) -> Figures:
    cuts = statistics.quantiles(taken, n=100)
    return {"p50_us": cuts[49] * 1e6, "p99_us": cuts[98] * 1e6}


# Each opens what messages go through, and yields the app, its channel and a payload.
Opened = Iterator[tuple[rambla.Rambla, str, Any]]


@contextmanager
def _our_redis(context: Context, count: int) -> Opened:
    with redis.redis_stream(context, count) as (_, name), redis.redis_app(context, name) as app:
        yield app, "orders", BODY


@contextmanager
def _our_rabbitmq(context: Context, count: int) -> Opened:
    with amqp.queue(context, count) as name, amqp.amqp_app(context, name) as app:
        yield app, "orders", BODY


@contextmanager
def _our_http(context: Context, _count: int) -> Opened:
    connections = {"local": {"url": f"{context.servers['http']}/in"}}
    with rambla.Rambla({"http": {"connections": connections, "channels": {"events": {}}}}) as app:
        yield app, "events", BODY


@contextmanager
def _redis_py(context: Context, count: int) -> Iterator[Step]:
    with redis.redis_stream(context, count) as (client, name):
        yield lambda: client.xadd(name, {"payload": BODY})


@contextmanager
def _pika(context: Context, count: int) -> Iterator[Step]:
    url = pika.URLParameters(context.servers["rabbitmq"])
    with amqp.queue(context, count) as name, pika.BlockingConnection(url) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield lambda: channel.basic_publish("", name, BODY, amqp.PERSISTENT)


@contextmanager
def _httpx(context: Context, _count: int) -> Iterator[Step]:
    url = f"{context.servers['http']}/in"
    with httpx.Client() as client:
        yield lambda: client.post(url, content=BODY).raise_for_status()


def _ours(opened: Callable[..., Any], per_s: int, *, wait: bool) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(per_s * SECONDS)
        with opened(context, count + _WARM) as (app, channel, payload):
            if wait:
                return _one_by_one(lambda: app.publish(channel, payload).result(), count, per_s)
            return _unwaited(app, channel, payload, count, per_s)

    return run


def _theirs(opened: Callable[..., Any], per_s: int) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(per_s * SECONDS)
        with opened(context, count + _WARM) as step:
            return _one_by_one(step, count, per_s)

    return run


def _case(
    broker: str, driver: str, ours: Callable[..., Any], theirs: Callable[..., Any], most: float
) -> Case:
    contenders: dict[str, Callable[[Context], Figures]] = {}
    goals: list[Goal] = []
    for per_s, wait in (SLOW, True), (QUICK, False):
        mine, other = f"rambla, {per_s} a second", f"{driver}, {per_s} a second"
        contenders |= {mine: _ours(ours, per_s, wait=wait), other: _theirs(theirs, per_s)}
        goals += [
            Goal(f"{per_s} a second, p50 (at most {most:g})", mine, other, figure="p50_us", most=most),
            Goal(f"{per_s} a second, p99 (at most 1)", mine, other, figure="p99_us", most=1.0),
        ]
    return Case(
        name=f"latency_{broker}",
        title=f"{broker}: until the broker's answer; 200 a second one by one, 2,000 without waiting",
        servers=(broker,),
        contenders=contenders,
        goals=tuple(goals),
    )


LATENCY_CASES = (
    _case("redis", "redis-py", _our_redis, _redis_py, 1.4),
    _case("rabbitmq", "pika blocking", _our_rabbitmq, _pika, 1.1),
    _case("http", "httpx", _our_http, _httpx, 0.7),
)
