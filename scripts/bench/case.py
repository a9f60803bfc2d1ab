"""What a benchmark is: cases, their contenders, and the figures they give."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

__all__ = [
    "Case",
    "Context",
    "Figures",
    "Goal",
    "Growth",
    "Stopwatch",
    "memory_mb",
    "publish_confirmed",
    "rate",
    "stopwatch",
]

Figures = dict[str, float]
"""What one run of one contender measured, by name: ``rate`` (1/s), ``cpu_us`` (of one message) and others."""


class Context(msgspec.Struct, frozen=True):
    """What a contender is given: the addresses of the private servers by name, and a factor on its count."""

    servers: dict[str, str]
    scale: float = 1.0

    def count(self, usual: int) -> int:
        """Return how many messages to send."""
        return max(1, int(usual * self.scale))


class Goal(msgspec.Struct, frozen=True):
    """A ratio that is to be reached: ``figure`` of ``ours`` over that of ``theirs``.

    ``least`` is a bound from below, ``most`` one from above; without both the ratio is only shown.
    """

    text: str
    ours: str
    theirs: str
    figure: str = "rate"
    least: float | None = None
    most: float | None = None

    def reached(self, ratio: float) -> bool | None:
        """Return whether a ratio is good enough; None where nothing is asked."""
        if self.least is not None:
            return ratio >= self.least
        return None if self.most is None else ratio <= self.most


class Growth(msgspec.Struct, frozen=True):
    """How the cost of a contender may grow with what its plot shows: at most as the ``most``-th power of it.

    1 is proportional; 0 is a cost of one message that stays as it is.
    """

    contender: str
    most: float = 1.0


class Case(msgspec.Struct, frozen=True):
    """Contenders that do the same work; each runs in a process of its own."""

    name: str
    title: str
    contenders: Mapping[str, Callable[[Context], Figures]]
    servers: tuple[str, ...] = ()
    goals: tuple[Goal, ...] = ()
    slow_disk: bool = False
    """Each sync of a file takes a millisecond longer."""
    plot: str | None = None
    """The figures end in a number each: they are drawn as a curve over it, ``plot`` is what it counts."""
    growth: tuple[Growth, ...] = ()


class Stopwatch(msgspec.Struct):
    """Wall and processor time of a block, in seconds; all threads of the process count."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure a block."""
    watch = Stopwatch()
    cpu, wall = time.process_time(), time.perf_counter()
    yield watch
    watch.wall_s, watch.cpu_s = time.perf_counter() - wall, time.process_time() - cpu


def publish_confirmed(app: Any, channel: str, payload: Any, count: int) -> Stopwatch:
    """Publish a first message, then ``count`` more while the watch runs; each must be confirmed."""
    app.publish(channel, payload).result(timeout_s=30)
    publish = app.publish
    with stopwatch() as watch:
        receipts = [publish(channel, payload) for _ in range(count)]
        app.flush()
    assert all(receipt.level == "confirmed" for receipt in receipts)
    return watch


def rate(count: int, watch: Stopwatch, **more: float) -> Figures:
    """Return the figures of a run that sent ``count`` messages."""
    return {"rate": count / watch.wall_s, "cpu_us": watch.cpu_s / count * 1e6, **more}


def memory_mb() -> float:
    """Return the largest resident size of this process so far, in megabytes."""
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / 1024
