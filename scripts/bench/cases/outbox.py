"""The cases of the outbox: durable publishes beside bare SQLite, and beside queues in SQLite files.

persist-queue and huey (with ``fsync``) sync each message to the disk. litequeue and diskcache do not, which
the slow disk shows: their figures are there for the price of a promise.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, memory_mb, rate, stopwatch

__all__ = ["BODY", "GROUP", "OUTBOX_CASES", "folder_here", "table_in"]

PAYLOAD = {"id": 42, "name": "Ann", "lines": "x" * 80}
BODY = b"x" * 100
GROUP = 500
THREADS = 8


@contextmanager
def folder_here() -> Iterator[Path]:
    """Give a folder on the disk of the project."""
    # Beside the project, and not below /tmp, which may be a file system in memory.
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as name:
        yield Path(name)


def table_in(folder: Path, **channel: Any) -> dict[str, Any]:
    """Return a configuration with the durable channel ``null.orders``, and its outbox in a folder."""
    return {
        "rambla": {"outbox": {"url": f"sqlite:///{folder / 'outbox.db'}"}},
        "null": {"channels": {"orders": {"durable": True, **channel}}},
    }


def _together(threads: int, count: int, run: Callable[[int], Any]) -> None:
    """Run ``count`` times in all, on several threads that each wait for every run."""

    def some() -> None:
        for at in range(count // threads):
            run(at)

    started = [threading.Thread(target=some) for _ in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()


def _rambla(threads: int) -> Callable[[Context], Figures]:
    def contender(context: Context) -> Figures:
        count = context.count(400) * threads
        with folder_here() as folder, rambla.Rambla(table_in(folder)) as app:
            app.publish("orders", PAYLOAD).result(10)
            with stopwatch() as watch:
                _together(threads, count, lambda at: app.publish("orders", PAYLOAD))
                app.flush()
            return rate(count, watch)

    return contender


def _bare(context: Context) -> Figures:
    """A row, a commit: what SQLite itself takes with ``synchronous = FULL``."""
    count = context.count(400)
    with folder_here() as folder:
        connection = _connected(folder)
        with stopwatch() as watch:
            for at in range(count):
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO message (id, payload) VALUES (?, ?)", (str(at), BODY))
                connection.execute("COMMIT")
        return rate(count, watch)


def _bare_groups(context: Context) -> Figures:
    """Groups of 500 rows, each group removed by the next one's transaction."""
    groups = context.count(40)
    with folder_here() as folder:
        connection = _connected(folder)
        with stopwatch() as watch:
            for group in range(groups):
                connection.execute("BEGIN IMMEDIATE")
                rows = [(str(at), BODY) for at in range(GROUP)]
                connection.executemany("INSERT INTO message (id, payload) VALUES (?, ?)", rows)
                connection.execute("DELETE FROM message WHERE seq <= ?", (group * GROUP,))
                connection.execute("COMMIT")
        return rate(groups * GROUP, watch)


def _connected(folder: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE message (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, payload BLOB) STRICT"
    )
    return connection


def _persist_queue(threads: int) -> Callable[[Context], Figures]:
    def contender(context: Context) -> Figures:
        persistqueue: Any = importlib.import_module("persistqueue")
        count = context.count(400) * threads
        with folder_here() as folder:
            found = persistqueue.SQLiteQueue(str(folder), auto_commit=True, multithreading=True)
            with stopwatch() as watch:
                _together(threads, count, lambda at: found.put(PAYLOAD))
            return rate(count, watch)

    return contender


def _huey(threads: int) -> Callable[[Context], Figures]:
    def contender(context: Context) -> Figures:
        storage: Any = importlib.import_module("huey.storage")
        count = context.count(400) * threads
        with folder_here() as folder:
            found = storage.SqliteStorage("bench", filename=str(folder / "huey.db"), fsync=True)
            with stopwatch() as watch:
                _together(threads, count, lambda at: found.enqueue(BODY))
            return rate(count, watch)

    return contender


def _litequeue(context: Context) -> Figures:
    litequeue: Any = importlib.import_module("litequeue")
    count = context.count(400)
    with folder_here() as folder:
        found = litequeue.LiteQueue(str(folder / "lite.db"))
        with stopwatch() as watch:
            for _ in range(count):
                found.put(BODY.decode())
        return rate(count, watch)


def _diskcache(context: Context) -> Figures:
    diskcache: Any = importlib.import_module("diskcache")
    count = context.count(400)
    with folder_here() as folder:
        found = diskcache.Deque(directory=str(folder))
        with stopwatch() as watch:
            for _ in range(count):
                found.append(BODY)
        return rate(count, watch)


def _many(context: Context) -> Figures:
    groups = context.count(40)
    messages = [PAYLOAD] * GROUP
    with folder_here() as folder, rambla.Rambla(table_in(folder, max_pending=100_000)) as app:
        app.publish("orders", PAYLOAD).result(10)
        with stopwatch() as watch:
            for _ in range(groups):
                app.publish_many("orders", messages)
            app.flush()
        return rate(groups * GROUP, watch)


def _single(name: str, *, slow: bool) -> Case:
    least = 0.9 if slow else 0.6
    return Case(
        name=name,
        title=f"outbox: one thread, to null, delivered and removed; a {'slow' if slow else 'fast'} disk",
        contenders={
            "rambla": _rambla(1),
            "bare SQLite": _bare,
            "persist-queue": _persist_queue(1),
            "huey, fsync": _huey(1),
            "litequeue, no sync": _litequeue,
            "diskcache, no sync": _diskcache,
        },
        goals=(
            Goal(f"rambla / bare SQLite (at least {least})", "rambla", "bare SQLite", least=least),
            Goal("rambla / persist-queue, which delivers nothing", "rambla", "persist-queue"),
        ),
        slow_disk=slow,
    )


def _eight(name: str, *, slow: bool) -> Case:
    least = 3.5 if slow else 2.5
    goals = [Goal(f"rambla / persist-queue (at least {least})", "rambla", "persist-queue", least=least)]
    if slow:
        goals += [
            Goal("rambla / one thread (at least 3.5)", "rambla", "rambla, one thread", least=3.5),
            Goal("rambla / huey (at least 3.5)", "rambla", "huey, fsync", least=3.5),
        ]
    return Case(
        name=name,
        title=f"outbox: eight threads, each waiting; a {'slow' if slow else 'fast'} disk",
        contenders={
            "rambla": _rambla(THREADS),
            "rambla, one thread": _rambla(1),
            "persist-queue": _persist_queue(THREADS),
            "huey, fsync": _huey(THREADS),
        },
        goals=tuple(goals),
        slow_disk=slow,
    )


def _groups(name: str, *, slow: bool) -> Case:
    least = 0.5 if slow else 0.25
    return Case(
        name=name,
        title=f"outbox: publish_many of 500, to null; a {'slow' if slow else 'fast'} disk",
        contenders={"rambla": _many, "bare groups of 500": _bare_groups, "persist-queue": _persist_queue(1)},
        goals=(
            Goal(f"rambla / bare groups (at least {least})", "rambla", "bare groups of 500", least=least),
            Goal("rambla / persist-queue (at least 12)", "rambla", "persist-queue", least=12),
        ),
        slow_disk=slow,
    )


def _waiting(rows: int) -> Callable[[Context], Figures]:
    """Accept and deliver on one channel while ``rows`` of another one wait."""

    def contender(context: Context) -> Figures:
        with folder_here() as folder:
            table = table_in(folder, max_pending=20_000)
            stuck = {"url": "redis://127.0.0.1:1/0"}
            table["redis"] = {
                "connections": {"nowhere": stuck},
                "channels": {"stuck": {"durable": True, "options": {"command": "lpush", "list": "x"}}},
            }
            with rambla.Rambla(table) as app:
                before = memory_mb()
                for _ in range(context.count(rows) // 5_000):
                    app.publish_many("stuck", [PAYLOAD] * 5_000)
                grown = memory_mb() - before
                with stopwatch() as accepting:
                    for _ in range(20):
                        app.publish_many("stuck", [PAYLOAD] * GROUP)
                with stopwatch() as watch:
                    for _ in range(20):
                        app.publish_many("orders", [PAYLOAD] * GROUP)
                    while app.audit()["null.orders"].pending:
                        time.sleep(0.001)
                app.stop(0)
            return rate(20 * GROUP, watch, grown_mb=grown, accept=20 * GROUP / accepting.wall_s)

    return contender


def _delivering(rows: int) -> Callable[[Context], Figures]:
    """Deliver the first 20,000 of ``rows`` that another process has left."""
    first = 20_000

    def contender(context: Context) -> Figures:
        number = max(first, context.count(rows))
        with folder_here() as folder:
            table = table_in(folder)
            with rambla.Rambla(
                table | {"rambla": {"outbox": {**table["rambla"]["outbox"], "deliver": False}}}
            ) as app:
                for _ in range(number // 5_000):
                    app.publish_many("orders", [PAYLOAD] * 5_000)
            with stopwatch() as watch:
                app = rambla.Rambla(table).start()
                while app.audit()["null.orders"].ok < first:
                    time.sleep(0.02)
            app.stop(0)
            return rate(first, watch)

    return contender


def _publishing(folder: str, seconds: float, found: Any) -> None:
    with rambla.Rambla(table_in(Path(folder))) as app:
        app.publish("orders", PAYLOAD)
        number, longest, until = 0, 0.0, time.monotonic() + seconds
        while (began := time.monotonic()) < until:
            app.publish("orders", PAYLOAD)
            longest = max(longest, time.monotonic() - began)
            number += 1
        found.put((number, longest))


def _processes(context: Context) -> Figures:
    """Four processes on one file: the share of the least, and the longest wait in mean commits."""
    seconds = 5.0 * context.scale
    spawn = multiprocessing.get_context("spawn")
    with folder_here() as folder:
        found = spawn.Queue()
        started = [spawn.Process(target=_publishing, args=(str(folder), seconds, found)) for _ in range(4)]
        for process in started:
            process.start()
        shares = [found.get(timeout=120) for _ in started]
        for process in started:
            process.join()
    numbers = [number for number, _ in shares]
    mean_s = seconds / sum(numbers)
    return {
        "rate": sum(numbers) / seconds,
        "fairness": min(numbers) / max(numbers),
        "longest_wait": max(longest for _, longest in shares) / mean_s,
    }


OUTBOX_CASES = (
    _single("outbox", slow=False),
    _single("outbox-slow", slow=True),
    _eight("outbox-threads", slow=False),
    _eight("outbox-threads-slow", slow=True),
    _groups("outbox-many", slow=False),
    _groups("outbox-many-slow", slow=True),
    Case(
        name="outbox-million",
        title="outbox: accept, deliver, and another channel while a million rows wait",
        contenders={
            "a million": _waiting(1_000_000),
            "none": _waiting(0),
            "deliver of a million": _delivering(1_000_000),
            "deliver of 20,000": _delivering(20_000),
        },
        goals=(
            Goal("another channel, a million / none (at least 0.9)", "a million", "none", least=0.9),
            Goal("accept, a million / none (at least 0.8)", "a million", "none", "accept", least=0.8),
            Goal(
                "deliver, of a million / of 20,000 (at least 0.8)",
                "deliver of a million",
                "deliver of 20,000",
                least=0.8,
            ),
        ),
    ),
    Case(
        name="outbox-processes",
        title="outbox: four processes on one file; fairness = least / most, longest wait in mean commits",
        contenders={"four processes": _processes},
    ),
)
