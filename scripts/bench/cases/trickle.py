"""The case of messages that come alone, as from a web server: what each costs its process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal

__all__ = ["TRICKLE", "alone"]

APART_S = 0.0005
PAYLOAD = {"event": "API Call", "path": "/orders/{id}", "status": 200}


def _contender(**channel: Any) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(4_000)
        with rambla.Rambla({"null": {"channels": {"events": channel}}}) as app:
            app.publish("events", PAYLOAD).result(timeout_s=10)
            figures = alone(count, lambda: app.publish("events", PAYLOAD))
            app.flush()
        return figures

    return run


def alone(count: int, step: Callable[[], object]) -> Figures:
    """Return what steps cost that come alone: their CPU, and the thread switches that each causes."""
    idle_s = _cpu_s(count, lambda: None)
    switches = _switches()
    took_s = _cpu_s(count, step)
    switches = _switches() - switches
    return {"cpu_us": (took_s - idle_s) / count * 1e6, "switches": switches / count}


def _cpu_s(count: int, step: Callable[[], object]) -> float:
    """Return the CPU seconds of the process for ``count`` steps, the pauses between them included."""
    began = time.process_time()
    for _ in range(count):
        step()
        time.sleep(APART_S)
    return time.process_time() - began


def _switches() -> int:
    """Return how often the threads of this process have gone to sleep, except for the calling one."""
    own = str(threading.get_native_id())
    lines = [
        line
        for status in Path("/proc/self/task").glob("*/status")
        if status.parent.name != own
        for line in status.read_text().splitlines()
    ]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


GATHERING, AT_ONCE = "batch_timeout_s = 5", "batch_timeout_s = 0"

TRICKLE = Case(
    name="trickle",
    title="messages that come alone, half a millisecond apart, to a handler that does nothing",
    contenders={AT_ONCE: _contender(), GATHERING: _contender(batch_timeout_s=5)},
    goals=(
        Goal("CPU gathering / at once (at most 0.5)", GATHERING, AT_ONCE, figure="cpu_us", most=0.5),
        Goal("switches gathering / at once (at most 0.1)", GATHERING, AT_ONCE, figure="switches", most=0.1),
    ),
)
