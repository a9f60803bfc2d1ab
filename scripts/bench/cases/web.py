"""The case of a web application with and without analytics: what the middleware costs each request."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.case import Case, Context, Figures, Goal
from bench.http_load import load

__all__ = ["WEB"]

HOST = "127.0.0.1"
_READY_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


def _contender(url: str, batch_size: int = 10) -> Callable[[Context], Figures]:
    """Measure the application with a tracker; ``{folder}`` in its URL is a new folder."""

    def run(context: Context) -> Figures:
        count = context.count(16_000)
        with (
            tempfile.TemporaryDirectory() as folder,
            _served(url.format(folder=folder), batch_size) as (port, pid),
        ):
            load(HOST, port, "/items/17", count=1_600)
            cpu_s, switches = _cpu_s(pid), _switches(pid)
            wall_s = load(HOST, port, "/items/17", count=count)
            cpu_s, switches = _cpu_s(pid) - cpu_s, _switches(pid) - switches
        return {"rate": count / wall_s, "cpu_us": cpu_s / count * 1e6, "switches": switches / count}

    return run


@contextmanager
def _served(url: str, batch_size: int) -> Iterator[tuple[int, int]]:
    """Run the application in a process of its own; give its port and its id."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "bench.web_app", str(port), url, str(batch_size)])
    try:
        _await(port)
        yield port, server.pid
    finally:
        server.terminate()
        server.wait(60)


def _await(port: int) -> None:
    until = time.monotonic() + _READY_S
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _switches(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep, except for its first one."""
    return sum(
        int(line.split()[1])
        for status in Path(f"/proc/{pid}/task").glob("*/status")
        if status.parent.name != str(pid)
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


PLAIN, NULL, DEAD = "without", "with, to null", "with, backend dead"
SQLITE, SQLITE_100 = "with, to SQLite", "with, to SQLite, batch_size = 100"

WEB = Case(
    name="web",
    title="a route of Starlette under uvicorn, with the middleware of analytics and without",
    contenders={
        PLAIN: _contender("none"),
        NULL: _contender("null:"),
        SQLITE: _contender("sqlite:///{folder}/analytics.db"),
        SQLITE_100: _contender("sqlite:///{folder}/analytics.db", 100),
        DEAD: _contender("postgresql://127.0.0.1:1/analytics"),
    },
    goals=tuple(
        goal
        for name in (SQLITE, SQLITE_100, DEAD)
        for goal in (
            Goal(f"CPU of a request {name} / without (at most 1.15)", name, PLAIN, "cpu_us", most=1.15),
            Goal(f"throughput {name} / without (at least 0.9)", name, PLAIN, "rate", least=0.9),
        )
    ),
)
