"""The cases of metrics and of the operations page: what a process pays while it is looked at."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, rate, stopwatch
from bench.cases.null import null_app
from rambla_py.telemetry.exposition import Exposition
from rambla_py.telemetry.prometheus import register

__all__ = ["METRICS", "PAGE", "SCRAPE"]

_BODY = "x" * 200
_TARGETS = 20
_CHUNK = 100_000

OFF, ON = "metrics = false", "scraped twice a second"
NO_SERVER, NOBODY, ONE, FIVE = "no server", "enabled, no viewer", "one viewer", "five viewers"
PUBLISH, TEN, THOUSAND = "a publish", "the page's text, 10 targets", "the page's text, 1,000 targets"
COLLECT, LATEST = "collect(), 10 targets", "prometheus_client's text, 10 targets"


def _publish(app: rambla.Rambla, channel: str, count: int) -> Figures:
    """Publish in chunks, so that few messages wait at a time."""
    app.publish(channel, _BODY).result(timeout_s=10)
    publish, done = app.publish, 0
    with stopwatch() as watch:
        while done < count:
            for _ in range(_CHUNK):
                publish(channel, _BODY)
            app.flush()
            done += _CHUNK
    return rate(done, watch)


# -- metrics ------------------------------------------------------------------------------------------


def _metrics(context: Context, *, on: bool) -> Figures:
    with ExitStack() as stack:
        app = rambla.Rambla(
            {
                "rambla": {"telemetry": {"metrics": on}},
                "null": {"channels": {"demo": {"max_pending": 3_000_000}}},
            }
        )
        stack.enter_context(app)
        if on:
            stack.enter_context(_scraping(Exposition(app)))
        return _publish(app, "demo", context.count(2_000_000))


@contextmanager
def _scraping(exposition: Exposition) -> Iterator[None]:
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(0.5):
            exposition.text()

    thread = threading.Thread(target=scrape)
    thread.start()
    yield
    ended.set()
    thread.join()


def _scrape(context: Context, number: int, read: Callable[[rambla.Rambla], Callable[[], Any]]) -> Figures:
    """Return the time of one scrape for each target."""
    times = max(3, context.count(2_000) // number)
    table: dict[str, Any] = {"null": {"channels": {f"demo{at}": {} for at in range(number)}}}
    with rambla.Rambla(table) as app:
        for at in range(number):
            app.publish(f"demo{at}", _BODY).result(timeout_s=10)
        once = read(app)
        once()
        with stopwatch() as watch:
            for _ in range(times):
                once()
    return rate(times * number, watch)


def _text(app: rambla.Rambla) -> Callable[[], Any]:
    return Exposition(app).text


def _collected(app: rambla.Rambla) -> Callable[[], Any]:
    registry = CollectorRegistry()
    register(app, registry)
    return lambda: list(registry.collect())


def _latest(app: rambla.Rambla) -> Callable[[], Any]:
    registry = CollectorRegistry()
    register(app, registry)
    return lambda: generate_latest(registry)


def _one_publish(context: Context) -> Figures:
    with null_app() as app:
        return _publish(app, "demo", context.count(1_000_000))


METRICS = Case(
    name="metrics",
    title="publish to a handler that does nothing, with histograms and scrapes",
    contenders={
        OFF: lambda context: _metrics(context, on=False),
        ON: lambda context: _metrics(context, on=True),
    },
    goals=(Goal("CPU of a message, on / off (at most 1.15)", ON, OFF, figure="cpu_us", most=1.15),),
)

SCRAPE = Case(
    name="scrape",
    title="one scrape, for each target",
    contenders={
        PUBLISH: _one_publish,
        TEN: lambda context: _scrape(context, 10, _text),
        THOUSAND: lambda context: _scrape(context, 1_000, _text),
        COLLECT: lambda context: _scrape(context, 10, _collected),
        LATEST: lambda context: _scrape(context, 10, _latest),
    },
    goals=tuple(
        Goal(f"{name}, in publishes{bound}", name, PUBLISH, figure="cpu_us", most=most)
        for name, bound, most in (
            (TEN, " (at most 150)", 150.0),
            (THOUSAND, " (at most 150)", 150.0),
            (COLLECT, " (at most 150)", 150.0),
            (LATEST, "", None),
        )
    ),
)


# -- the page -----------------------------------------------------------------------------------------

_VIEWER = """
import sys, time, urllib.request
print("ready", flush=True)
while True:
    urllib.request.urlopen(sys.argv[1], timeout=10).read()
    time.sleep(1)
"""


def _page(context: Context, *, enabled: bool, viewers: int) -> Figures:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    channel = {"max_pending": 3_000_000}
    table = {
        "rambla": {"web": {"enabled": enabled, "port": port}},
        "null": {"channels": {f"demo{at}": channel for at in range(_TARGETS)}},
    }
    with ExitStack() as stack:
        app = stack.enter_context(rambla.Rambla(table))
        for at in range(_TARGETS):
            app.publish(f"demo{at}", _BODY).result(timeout_s=10)
        for _ in range(viewers):
            stack.enter_context(_looking(f"http://127.0.0.1:{port}/status.json"))
        return _publish(app, "demo0", context.count(5_000_000))


@contextmanager
def _looking(url: str) -> Iterator[None]:
    viewer = subprocess.Popen([sys.executable, "-c", _VIEWER, url], stdout=subprocess.PIPE)
    try:
        assert viewer.stdout is not None
        viewer.stdout.readline()
        yield
        assert viewer.poll() is None, "a viewer got no answer"
    finally:
        viewer.kill()
        viewer.wait(10)


PAGE = Case(
    name="page",
    title=f"publish to a handler that does nothing, with the operations page of {_TARGETS} targets",
    contenders={
        NO_SERVER: lambda context: _page(context, enabled=False, viewers=0),
        NOBODY: lambda context: _page(context, enabled=True, viewers=0),
        ONE: lambda context: _page(context, enabled=True, viewers=1),
        FIVE: lambda context: _page(context, enabled=True, viewers=5),
    },
    goals=tuple(
        Goal(f"CPU of a message, {name} / {NO_SERVER} (at most {most})", name, NO_SERVER, "cpu_us", most=most)
        for name, most in ((NOBODY, 1.01), (ONE, 1.05), (FIVE, 1.15))
    ),
)
