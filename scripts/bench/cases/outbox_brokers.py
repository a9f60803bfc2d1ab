"""The cases of the outbox before a broker: with and without it."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, rate, stopwatch
from bench.cases.amqp import queue
from bench.cases.outbox import BODY, GROUP, folder_here, table_in

__all__ = ["OUTBOX_BROKER_CASES"]


def _to_rabbitmq(*, durable: bool) -> Callable[[Context], Figures]:
    def contender(context: Context) -> Figures:
        groups = context.count(60)
        count = groups * GROUP
        with folder_here() as folder, queue(context, count) as name:
            table = table_in(folder)
            del table["null"]
            options = {"exchange": "", "routing_key": name}
            channel = {"durable": durable, "max_pending": 200_000, "options": options}
            table["amqp"] = {
                "connections": {"local": {"url": context.servers["rabbitmq"]}},
                "channels": {"orders": channel},
            }
            with rambla.Rambla(table) as app, stopwatch() as watch:
                for _ in range(groups):
                    app.publish_many("orders", [BODY] * GROUP)
                app.flush()
            return rate(count, watch)

    return contender


def _to_redis(*, durable: bool) -> Callable[[Context], Figures]:
    def contender(context: Context) -> Figures:
        groups = context.count(100)
        with folder_here() as folder:
            table = table_in(folder)
            del table["null"]
            options = {"command": "xadd", "stream": f"bench-{uuid.uuid4().hex[:8]}"}
            channel = {"durable": durable, "max_pending": 200_000, "options": options}
            table["redis"] = {
                "connections": {"local": {"url": context.servers["redis"]}},
                "channels": {"orders": channel},
            }
            with rambla.Rambla(table) as app, stopwatch() as watch:
                for _ in range(groups):
                    app.publish_many("orders", [BODY] * GROUP)
                app.flush()
            return rate(groups * GROUP, watch)

    return contender


def _drain(*, durable: bool) -> Callable[[Context], Figures]:
    """Deliver to a broker what was published while it stood still."""

    def contender(context: Context) -> Figures:
        groups, pid = context.count(200), int(context.servers["rabbitmq pid"])
        count = groups * GROUP + 1
        with folder_here() as folder, queue(context, count) as name:
            table = table_in(folder)
            del table["null"]
            options = {"exchange": "", "routing_key": name}
            table["amqp"] = {
                "connections": {"local": {"url": context.servers["rabbitmq"]}},
                "channels": {
                    "orders": {
                        "durable": durable,
                        "max_pending": 10_000 if durable else 200_000,
                        "attempt_timeout_s": 300.0,
                        "options": options,
                    }
                },
            }
            with rambla.Rambla(table) as app:
                app.publish("orders", BODY).result(10)
                os.kill(pid, signal.SIGSTOP)
                try:
                    for _ in range(groups):
                        app.publish_many("orders", [BODY] * GROUP)
                finally:
                    os.kill(pid, signal.SIGCONT)
                with stopwatch() as watch:
                    app.flush(None)
            return rate(count, watch)

    return contender


OUTBOX_BROKER_CASES = (
    Case(
        name="outbox-amqp",
        title="outbox: publish_many to RabbitMQ, confirmed, with and without the outbox",
        servers=("rabbitmq",),
        contenders={"durable": _to_rabbitmq(durable=True), "in memory": _to_rabbitmq(durable=False)},
        goals=(Goal("durable / in memory (at least 0.8)", "durable", "in memory", least=0.8),),
    ),
    Case(
        name="outbox-redis",
        title="outbox: publish_many to Redis, with and without the outbox",
        servers=("redis",),
        contenders={"durable": _to_redis(durable=True), "in memory": _to_redis(durable=False)},
        goals=(Goal("durable / in memory (at least 0.2)", "durable", "in memory", least=0.2),),
    ),
    Case(
        name="outbox-drain",
        title="outbox: 100,000 messages that waited for RabbitMQ, with and without the outbox",
        servers=("rabbitmq",),
        contenders={"durable": _drain(durable=True), "in memory": _drain(durable=False)},
        goals=(Goal("durable / in memory (at least 0.85)", "durable", "in memory", least=0.85),),
    ),
)
