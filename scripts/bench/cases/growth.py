"""The cases that are curves: cost over channels, backlog, publishers and size."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import rambla_py as rambla
from bench.case import Case, Context, Figures, Growth, stopwatch
from bench.cases.amqp import amqp_app, queue
from bench.cases.null import PAYLOAD, null_app
from bench.cases.redis import redis_app
from bench.cases.size import GateHandler, backlog_costs, channel_costs

__all__ = ["GROWTH"]

SIZES = (64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576)


def _over_channels(figure: str) -> Callable[[Context], Figures]:
    def run(_: Context) -> Figures:
        return {f"CPU us a message {n}": channel_costs(n)[figure] for n in (1, 10, 100, 1_000)}

    return run


def _over_backlog(figure: str) -> Callable[[Context], Figures]:
    def run(_: Context) -> Figures:
        steps = (10_000, 100_000, 1_000_000)
        return {f"CPU us a message {n}": _alone(n)[figure] for n in steps}

    return run


def _alone(waiting: int) -> Figures:
    GateHandler.gate.clear()
    return backlog_costs(waiting)


def _over_publishers(_: Context) -> Figures:
    return {f"us a message {number}": _publishers(number) for number in (1, 2, 4, 8, 16)}


def _publishers(number: int) -> float:
    share = 200_000 // number
    with null_app() as app:
        app.publish("demo", PAYLOAD).result(timeout_s=10)

        def publish_a_share() -> None:
            publish = app.publish
            for _ in range(share):
                publish("demo", PAYLOAD)

        threads = [threading.Thread(target=publish_a_share) for _ in range(number)]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        app.flush()
        return (time.perf_counter() - began) / (share * number) * 1e6


def _over_sizes(run: Callable[[Context, bytes, int], float]) -> Callable[[Context], Figures]:
    def all_sizes(context: Context) -> Figures:
        figures = {}
        for size in SIZES:
            count = max(50, min(20_000, 40_000_000 // size))
            figures[f"CPU us a message {size}"] = run(context, b"x" * size, count)
        return figures

    return all_sizes


def _to_null(_: Context, body: bytes, count: int) -> float:
    with null_app() as app:
        return _cost(app, "demo", body, count)


def _to_amqp(context: Context, body: bytes, count: int) -> float:
    with queue(context, count + 1) as name, amqp_app(context, name) as app:
        return _cost(app, "orders", body, count)


def _to_redis(context: Context, body: bytes, count: int) -> float:
    with redis_app(context, f"growth-{len(body)}") as app:
        return _cost(app, "orders", body, count)


def _cost(app: rambla.Rambla, channel: str, body: bytes, count: int) -> float:
    app.publish(channel, body).result(timeout_s=30)
    publish = app.publish
    with stopwatch() as watch:
        for _ in range(count):
            publish(channel, body)
        app.flush()
    return watch.cpu_s / count * 1e6


GROWTH = (
    Case(
        name="growth_channels",
        title="cost of a message over the number of channels, all used in turn",
        contenders={
            "publish() itself": _over_channels("publish_us"),
            "until all have their outcome": _over_channels("all_us"),
        },
        plot="channels",
        growth=(
            Growth("publish() itself", most=0.2),
            Growth("until all have their outcome", most=0.25),
        ),
    ),
    Case(
        name="growth_backlog",
        title="cost of a message over what waits already",
        contenders={"publish": _over_backlog("publish_us"), "drain": _over_backlog("drain_us")},
        plot="messages waiting",
        growth=(Growth("publish", most=0.1), Growth("drain", most=0.1)),
    ),
    Case(
        name="growth_publishers",
        title="time of a message over publishing threads, handler included",
        contenders={"null": _over_publishers},
        plot="publishing threads",
        growth=(Growth("null", most=0.1),),
    ),
    Case(
        name="growth_size",
        title="processor time of a message over its size in bytes, confirmed",
        contenders={
            "null": _over_sizes(_to_null),
            "amqp": _over_sizes(_to_amqp),
            "redis": _over_sizes(_to_redis),
        },
        servers=("rabbitmq", "redis"),
        plot="bytes",
        growth=(Growth("null"), Growth("amqp"), Growth("redis")),
    ),
)
