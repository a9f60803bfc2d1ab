"""The cases of size: a thousand channels, a million messages that wait."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path

import pykka

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal
from bench.cases.null import PAYLOAD

__all__ = ["BACKLOG", "CHANNELS", "START", "backlog_costs", "channel_costs"]


def _channels_app(count: int) -> rambla.Rambla:
    channels = {f"c{number}": {"options": {"expires_s": 900}} for number in range(count)}
    return rambla.Rambla({"null": {"channels": channels}})


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def channel_costs(number: int) -> Figures:
    """Publish to ``number`` channels in turn; microseconds a message, the best of five.

    ``publish_us`` is the processor time of the publishing thread, ``all_us`` that of the whole process until
    every message has its outcome.
    """
    app, count = _channels_app(number), 100_000
    names = app.channels() * (count // number)
    with app:
        for name in app.channels():
            app.publish(name, PAYLOAD).result(timeout_s=30)
        publish, own, whole = app.publish, [], []
        for _ in range(5):
            thread, process = time.thread_time(), time.process_time()
            for name in names:
                publish(name, PAYLOAD)
            own.append((time.thread_time() - thread) / count * 1e6)
            app.flush()
            whole.append((time.process_time() - process) / count * 1e6)
        return {"publish_us": min(own), "all_us": min(whole), "resident_mb": _resident_mb()}


CHANNELS = Case(
    name="channels",
    title="1,000 channels, all used in turn, beside one",
    contenders={
        "1,000 channels": lambda _: channel_costs(1_000),
        "1 channel": lambda _: channel_costs(1),
    },
    goals=(
        Goal("a publish (at most 1.5)", "1,000 channels", "1 channel", figure="publish_us", most=1.5),
        Goal(
            "all that follows included (at most 2.5)",
            "1,000 channels",
            "1 channel",
            figure="all_us",
            most=2.5,
        ),
    ),
)


def _start_lazy(context: Context) -> Figures:
    count = context.count(1_000)
    app, before = _channels_app(count), _resident_mb()
    began = time.perf_counter()
    app.start()
    took = time.perf_counter() - began
    figures = {"start_ms": took * 1e3, "resident_mb": _resident_mb(), "grown_mb": _resident_mb() - before}
    app.stop()
    return figures


class _Idle(pykka.ThreadingActor):
    def on_receive(self, message: object) -> None:
        """Do nothing."""


def _start_actors(context: Context) -> Figures:
    count, before = context.count(1_000), _resident_mb()
    began = time.perf_counter()
    actors = [_Idle.start() for _ in range(count)]
    took = time.perf_counter() - began
    figures = {"start_ms": took * 1e3, "resident_mb": _resident_mb(), "grown_mb": _resident_mb() - before}
    for actor in actors:
        actor.stop(block=False)
    return figures


START = Case(
    name="start",
    title="start of 1,000 lazy channels beside 1,000 bare pykka actors",
    contenders={"rambla, 1,000 lazy channels": _start_lazy, "1,000 pykka actors": _start_actors},
    goals=(
        Goal(
            "start (at most 0.11)",
            "rambla, 1,000 lazy channels",
            "1,000 pykka actors",
            figure="start_ms",
            most=0.11,
        ),
    ),
)


class GateHandler(rambla.Handler):
    """Does nothing, once its gate is open."""

    gate = threading.Event()

    def handle_batch(self, messages, state):  # type: ignore[no-untyped-def]
        """Wait for the gate."""
        self.gate.wait()
        return [None] * len(messages)


def backlog_costs(waiting: int) -> Figures:
    """Let ``waiting`` messages wait, then publish and drain 100,000 behind them."""
    table = {
        "gate": {
            "handler": "bench.cases.size:GateHandler",
            "channels": {
                "demo": {"max_pending": 3_000_000, "attempt_timeout_s": 900, "options": {"expires_s": 900}}
            },
        }
    }
    count = 100_000
    with rambla.Rambla(table) as app:
        publish = app.publish
        publish("demo", PAYLOAD)
        gc.collect()
        before = _resident_mb()
        for _ in range(waiting):
            publish("demo", PAYLOAD)
        grown = _resident_mb() - before
        began = time.thread_time()
        for _ in range(count):
            publish("demo", PAYLOAD)
        published = time.thread_time() - began
        began = time.process_time()
        GateHandler.gate.set()
        app.flush()
        drained = time.process_time() - began
    return {
        "publish_us": published / count * 1e6,
        "drain_us": drained / (waiting + count) * 1e6,
        "bytes_a_message": grown * 2**20 / waiting,
    }


BACKLOG = Case(
    name="backlog",
    title="publish and drain with a million messages waiting, beside ten thousand",
    contenders={
        "1,000,000 waiting": lambda _: backlog_costs(1_000_000),
        "10,000 waiting": lambda _: backlog_costs(10_000),
    },
    goals=(
        Goal("publish (at most 1.2)", "1,000,000 waiting", "10,000 waiting", figure="publish_us", most=1.2),
        Goal("drain (at most 1.2)", "1,000,000 waiting", "10,000 waiting", figure="drain_us", most=1.2),
    ),
)
