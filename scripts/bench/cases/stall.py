"""The case of a broker that stands still: what ``publish()`` takes meanwhile."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.case import Case, Context, Figures, Goal
from bench.cases.amqp import BODY
from rambla_py import Rambla

__all__ = ["STALL"]

PENDING = 60_000


@contextmanager
def _app(context: Context) -> Iterator[Rambla]:
    table = {
        "amqp": {
            "connections": {"local": {"url": context.servers["rabbitmq"]}},
            "channels": {
                "orders": {
                    "max_pending": PENDING,
                    "options": {"routing_key": "stall", "declare": {"queue": {"name": "stall"}}},
                }
            },
        }
    }
    app = Rambla(table).start()
    try:
        app.publish("orders", BODY).result(timeout_s=30)
        yield app
    finally:
        app.stop(timeout_s=30)


def _percentiles(app: Rambla, count: int) -> Figures:
    """Publish one every 50 microseconds, as an application does, and time each call by itself."""
    publish, clock, took = app.publish, time.perf_counter_ns, []
    due = clock()
    for _ in range(count):
        due += 50_000
        while clock() < due:
            pass
        began = clock()
        publish("orders", BODY)
        took.append(clock() - began)
    took.sort()
    return {"p50_us": took[count // 2] / 1e3, "p99_us": took[count * 99 // 100] / 1e3}


def _up(context: Context) -> Figures:
    with _app(context) as app:
        return _percentiles(app, context.count(40_000))


def _stopped(context: Context) -> Figures:
    broker = int(context.servers["rabbitmq pid"])
    with _app(context) as app:
        os.kill(broker, signal.SIGSTOP)
        try:
            return _percentiles(app, context.count(40_000))
        finally:
            os.kill(broker, signal.SIGCONT)


STALL = Case(
    name="stall",
    title="publish() itself, 20,000 a second, with the broker at work and with it stopped (SIGSTOP)",
    servers=("rabbitmq",),
    contenders={"broker stopped": _stopped, "broker at work": _up},
    goals=(
        Goal(
            "p99 stopped / at work (at most 1.5)",
            "broker stopped",
            "broker at work",
            figure="p99_us",
            most=1.5,
        ),
    ),
)
