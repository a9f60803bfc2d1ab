"""The cases of the outbox in PostgreSQL: relays, commits, and the way from a commit to a handler.

txoutbox and faststream-outbox are relays of tables in PostgreSQL as well. faststream-outbox knows no keys,
so it keeps no order; txoutbox keeps that of a key, and takes turns for it.
"""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal
from rambla_py import Handler, outbox

__all__ = ["OUTBOX_POSTGRES_CASES"]

PAYLOAD = {"id": 42, "name": "Ann", "lines": "x" * 80}
RELAYS, PUBLISHERS, KEYS = 4, 8, 1_000
_spawn = multiprocessing.get_context("spawn")


def _database(context: Context) -> str:
    """Make an empty database, and return its address."""
    url = context.servers["postgres"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bench WITH (FORCE)")
        connection.execute("CREATE DATABASE bench")
    return f"{url.rpartition('/')[0]}/bench"


def _table(url: str, *, deliver: bool = True, **settings: Any) -> dict[str, Any]:
    return {
        "rambla": {"outbox": {"url": url, "deliver": deliver, **settings}},
        "null": {"channels": {"orders": {"durable": True}}},
    }


# -- four relays --------------------------------------------------------------------------------------


def _relay_rambla(url: str, ready: Any, stop: Any) -> None:
    app = rambla.Rambla(_table(url))
    importlib.import_module("rambla_py.outbox.postgres.journal")
    ready.wait()
    with app:
        stop.wait()


def _relay_txoutbox(url: str, ready: Any, stop: Any) -> None:
    postgres: Any = importlib.import_module("txoutbox.adapters.postgres")
    relay: Any = importlib.import_module("txoutbox.relay")

    async def deliver(message: Any) -> None: ...

    async def run() -> None:
        storage = await postgres.PostgresStorage.connect(url, min_size=1, max_size=2, delete_on_ack=True)
        config = relay.RelayConfig(batch_size=500, concurrency=100)
        ready.wait()
        running = relay.Relay(storage, deliver, config=config)
        task = asyncio.ensure_future(running.run())
        await asyncio.to_thread(stop.wait)
        running.stop()
        await task

    asyncio.run(run())


def _relay_faststream(url: str, ready: Any, stop: Any, **options: Any) -> None:
    faststream: Any = importlib.import_module("faststream_outbox")
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    engines: Any = importlib.import_module("sqlalchemy.ext.asyncio")

    async def run() -> None:
        engine = engines.create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        table = faststream.make_outbox_table(sqlalchemy.MetaData(), table_name="outbox")
        broker = faststream.OutboxBroker(engine, outbox_table=table, logger=None)

        async def deliver(body: Any) -> None: ...

        broker.subscriber("orders", **options)(deliver)
        ready.wait()
        async with broker:
            await broker.start()
            await asyncio.to_thread(stop.wait)

    asyncio.run(run())


def _relay_faststream_tuned(url: str, ready: Any, stop: Any) -> None:
    _relay_faststream(
        url,
        ready,
        stop,
        max_workers=8,
        fetch_batch_size=500,
        terminal_flush_batch_size=100,
        min_fetch_interval=0.01,
    )


def _fill_rambla(url: str, count: int) -> str:
    with rambla.Rambla(_table(url, deliver=False)) as app:
        for at in range(0, count, 1_000):
            messages = [
                rambla.Message(PAYLOAD, key=f"k{one % KEYS}") for one in range(at, min(at + 1_000, count))
            ]
            app.publish_many("orders", messages)
    return "rambla_message"


def _fill_txoutbox(url: str, count: int) -> str:
    postgres: Any = importlib.import_module("txoutbox.adapters.postgres")
    insert = (
        "INSERT INTO outbox (topic, key, payload) "
        f"SELECT 'orders', 'k' || at %% {KEYS}, convert_to(%s, 'UTF8') FROM generate_series(1, %s) AS at"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(postgres.SCHEMA_SQL.format(table="outbox", name="outbox"))
        connection.execute(insert.encode(), (str(PAYLOAD), count))
        connection.execute("ANALYZE outbox")
    return "outbox"


def _fill_faststream(url: str, count: int) -> str:
    faststream: Any = importlib.import_module("faststream_outbox")
    sqlalchemy: Any = importlib.import_module("sqlalchemy")
    metadata = sqlalchemy.MetaData()
    faststream.make_outbox_table(metadata, table_name="outbox")
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    metadata.create_all(engine)
    engine.dispose()
    insert = (
        "INSERT INTO outbox (queue, payload, headers) SELECT 'orders', convert_to(%s, 'UTF8'), "
        """'{"content-type": "application/json"}' FROM generate_series(1, %s)"""
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(insert, ('{"id": 42, "lines": "' + "x" * 100 + '"}', count))
        connection.execute("ANALYZE outbox")
    return "outbox"


def _relays(
    fill: Callable[[str, int], str], relay: Callable[[str, Any, Any], None], rows: int = 100_000
) -> Callable[[Context], Figures]:
    """Four relay processes on a full table: how fast it is empty, from the moment when all are loaded."""

    def contender(context: Context) -> Figures:
        url, count = _database(context), context.count(rows)
        table = fill(url, count)
        ready, stop = _spawn.Barrier(RELAYS + 1), _spawn.Event()
        started = [_spawn.Process(target=relay, args=(url, ready, stop)) for _ in range(RELAYS)]
        for process in started:
            process.start()
        with psycopg.connect(url, autocommit=True) as connection:
            ready.wait(120)
            began = time.perf_counter()
            query = f"SELECT count(*) FROM (SELECT FROM {table} LIMIT 1) AS one".encode()
            while connection.execute(query).fetchone() != (0,):
                time.sleep(0.02)
            took_s = time.perf_counter() - began
        stop.set()
        for process in started:
            process.join()
        return {"rate": count / took_s}

    return contender


# -- commits ------------------------------------------------------------------------------------------

_INSERT = """
INSERT INTO rambla_message (bucket, target, id, key, accepted, due, wait_s, options, form, payload, crc)
VALUES (7, 'null.orders', %s, NULL, 0, NULL, 0, NULL, 'value', %s, 0)
"""


def _commit_outbox(connection: Any, app: rambla.Rambla, at: int) -> None:
    outbox.publish(connection, "orders", PAYLOAD, app=app)


def _commit_insert(connection: Any, app: rambla.Rambla, at: int) -> None:
    connection.execute(_INSERT, (str(at), b"x" * 110))


def _commit_notify(connection: Any, app: rambla.Rambla, at: int) -> None:
    connection.execute(_INSERT, (str(at), b"x" * 110))
    connection.execute("NOTIFY rambla_outbox")


def _publisher(url: str, kind: str, count: int, ready: Any) -> None:
    publish = {"outbox": _commit_outbox, "insert": _commit_insert, "notify": _commit_notify}[kind]
    app = rambla.Rambla(_table(url))
    with psycopg.connect(url, autocommit=True) as connection:
        for at in range(count + 1):
            if at == 1:
                ready.wait()
            with connection.transaction():
                publish(connection, app, at)
        ready.wait()


def _commits(kind: str) -> Callable[[Context], Figures]:
    """Eight processes whose transactions store a message each, beside a relay that does not sleep."""

    def contender(context: Context) -> Figures:
        url, count = _database(context), context.count(500)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(outbox.ddl("postgresql").encode())
            connection.execute("INSERT INTO rambla_relay (until) VALUES (now() + interval '1 hour')")
        ready = _spawn.Barrier(PUBLISHERS + 1)
        started = [
            _spawn.Process(target=_publisher, args=(url, kind, count, ready)) for _ in range(PUBLISHERS)
        ]
        for process in started:
            process.start()
        ready.wait(300)
        began = time.perf_counter()
        ready.wait(300)
        took_s = time.perf_counter() - began
        for process in started:
            process.join()
        return {"rate": PUBLISHERS * count / took_s}

    return contender


# -- from a commit to a handler -----------------------------------------------------------------------


_QUIET = "SELECT bool_and(idle) AND NOT EXISTS (SELECT FROM rambla_message) FROM rambla_relay"


def _to_handler(context: Context) -> Figures:
    """From the commit of a transaction to the handler of a relay that sleeps."""
    url, received = _database(context), threading.Event()

    class Receiver(Handler):
        def handle_publish(self, message: Any, options: Any, state: Any) -> None:
            received.set()

    table = _table(url, poll_s=0.2)
    del table["null"]
    table["here"] = {
        "handler": Receiver,
        "connections": {"c": {}},
        "channels": {"orders": {"connection": "c", "durable": True}},
    }
    took = []
    with rambla.Rambla(table) as app, psycopg.connect(url) as connection:
        for _ in range(context.count(60)):
            while connection.execute(_QUIET).fetchone() != (True,):
                connection.rollback()
                time.sleep(0.02)
            outbox.publish(connection, "here.orders", PAYLOAD, app=app)
            received.clear()
            began = time.perf_counter()
            connection.commit()
            received.wait(10)
            took.append(time.perf_counter() - began)
    return _waits(took)


def _notified_of_a_row(context: Context) -> Figures:
    """The same for a transaction that stores a row: its commit waits for the disk."""
    return _notified(context, "CREATE TABLE bench (id integer)", "INSERT INTO bench VALUES (1)")


def _notified(context: Context, before: str = "SELECT 1", beside: str = "SELECT 1") -> Figures:
    """From NOTIFY to the return of what waits for it, on another connection."""
    url, received, stop = _database(context), threading.Event(), threading.Event()

    def listen() -> None:
        with psycopg.connect(url, autocommit=True) as listener:
            listener.execute("LISTEN bench")
            received.set()
            while not stop.is_set():
                for _ in listener.notifies(timeout=0.5, stop_after=1):
                    received.set()

    thread = threading.Thread(target=listen)
    thread.start()
    received.wait(10)
    took = []
    with psycopg.connect(url) as connection:
        connection.execute(before.encode())
        connection.commit()
        for _ in range(context.count(60)):
            received.clear()
            connection.execute(beside.encode())
            connection.execute("NOTIFY bench")
            began = time.perf_counter()
            connection.commit()
            received.wait(10)
            took.append(time.perf_counter() - began)
            time.sleep(0.02)
    stop.set()
    thread.join()
    return _waits(took)


def _waits(took: list[float]) -> Figures:
    ordered = sorted(took)
    return {
        "median_ms": statistics.median(ordered) * 1e3,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1e3,
    }


OUTBOX_POSTGRES_CASES = (
    Case(
        name="outbox-pg",
        title="outbox in PostgreSQL: four relays, 100,000 keyed rows, to a handler that does nothing",
        servers=("postgres",),
        contenders={
            "rambla": _relays(_fill_rambla, _relay_rambla),
            "txoutbox, batches of 500": _relays(_fill_txoutbox, _relay_txoutbox),
            "faststream-outbox, 500, flush 100": _relays(_fill_faststream, _relay_faststream_tuned),
            "faststream-outbox as it is": _relays(_fill_faststream, _relay_faststream, 200),
        },
        goals=(
            Goal("rambla / txoutbox (at least 1.5)", "rambla", "txoutbox, batches of 500", least=1.5),
            Goal(
                "rambla / faststream-outbox (at least 6)",
                "rambla",
                "faststream-outbox, 500, flush 100",
                least=6,
            ),
            Goal(
                "rambla / faststream-outbox as it is (at least 20)",
                "rambla",
                "faststream-outbox as it is",
                least=20,
            ),
        ),
    ),
    Case(
        name="outbox-pg-commits",
        title="outbox in PostgreSQL: commits of eight publishing transactions",
        servers=("synced postgres",),
        contenders={
            "outbox.publish": _commits("outbox"),
            "the INSERT alone": _commits("insert"),
            "the INSERT, and NOTIFY": _commits("notify"),
        },
        goals=(
            Goal(
                "outbox.publish / the INSERT (at least 0.9)", "outbox.publish", "the INSERT alone", least=0.9
            ),
            Goal("the outbox / with NOTIFY", "outbox.publish", "the INSERT, and NOTIFY"),
        ),
    ),
    Case(
        name="outbox-pg-idle",
        title="outbox in PostgreSQL: from a commit to the handler of an idle relay",
        servers=("synced postgres",),
        contenders={
            "commit to handler": _to_handler,
            "NOTIFY": _notified,
            "a row, and NOTIFY": _notified_of_a_row,
        },
        goals=(
            Goal("the wait / NOTIFY (at most 8)", "commit to handler", "NOTIFY", figure="median_ms", most=8),
            Goal(
                "the wait / a row, and NOTIFY", "commit to handler", "a row, and NOTIFY", figure="median_ms"
            ),
        ),
    ),
)
