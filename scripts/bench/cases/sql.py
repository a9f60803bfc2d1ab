"""The cases of SQL: rows of an id, a number and 200 letters."""

from __future__ import annotations

import importlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import rambla_py as rambla
from bench.case import Case, Context, Figures, Goal, rate, stopwatch

__all__ = ["POSTGRES", "SQLITE"]

TEXT = "x" * 200
COLUMNS = {"n": "payload.n::bigint", "text": "payload.text::text"}
BATCH = 500


def _batches(count: int) -> Iterator[list[tuple[str, int, str]]]:
    for first in range(0, count, BATCH):
        yield [(f"id-{n}", n, TEXT) for n in range(first, min(count, first + BATCH))]


def _rows_of(context: Context, url: str, count: int, **options: Any) -> Figures:
    table = {
        "sql": {
            "connections": {"local": {"url": url}},
            "channels": {
                "rows": {
                    "max_pending": 1_000_000,
                    "options": {"table": "bench", "columns": COLUMNS, "create_table": True, **options},
                }
            },
        }
    }
    with rambla.Rambla(table) as app:
        app.publish("rows", {"n": -1, "text": TEXT}, id="first").result(timeout_s=30)
        with stopwatch() as watch:
            for n in range(count):
                app.publish("rows", {"n": n, "text": TEXT})
            app.flush()
        audit = app.audit()["sql.rows"]
        assert audit.ok == count + 1, audit
    return rate(count, watch)


def _postgres_rambla(**options: Any) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        count = context.count(50_000)
        _fresh(context, "")
        figures = _rows_of(context, context.servers["postgres"], count, **options)
        _counted(context, count + 1)
        return figures

    return run


def _fresh(context: Context, create: str) -> None:
    psycopg: Any = importlib.import_module("psycopg")
    with psycopg.connect(context.servers["postgres"]) as connection:
        connection.execute("DROP TABLE IF EXISTS bench")
        if create:
            connection.execute(create)


def _counted(context: Context, count: int) -> None:
    psycopg: Any = importlib.import_module("psycopg")
    with psycopg.connect(context.servers["postgres"]) as connection:
        found = connection.execute("SELECT count(*) FROM bench").fetchone()[0]
    assert found == count, f"the table holds {found} rows, not {count}"


TABLE = "CREATE TABLE bench (id text PRIMARY KEY, n bigint, text text)"


def _postgres_copy(context: Context) -> Figures:
    psycopg: Any = importlib.import_module("psycopg")
    count = context.count(50_000)
    _fresh(context, TABLE)
    with psycopg.connect(context.servers["postgres"]) as connection, stopwatch() as watch:
        for batch in _batches(count):
            with connection.cursor().copy("COPY bench (id, n, text) FROM STDIN") as copy:
                for row in batch:
                    copy.write_row(row)
            connection.commit()
    _counted(context, count)
    return rate(count, watch)


def _postgres_sqlalchemy(*, upsert: bool) -> Callable[[Context], Figures]:
    def run(context: Context) -> Figures:
        sqlalchemy: Any = importlib.import_module("sqlalchemy")
        postgresql: Any = importlib.import_module("sqlalchemy.dialects.postgresql")
        count = context.count(20_000)
        _fresh(context, TABLE)
        url = context.servers["postgres"].replace("postgresql://", "postgresql+psycopg://")
        engine = sqlalchemy.create_engine(url)
        table = sqlalchemy.Table("bench", sqlalchemy.MetaData(), autoload_with=engine)
        statement = postgresql.insert(table)
        if upsert:
            excluded = statement.excluded
            statement = statement.on_conflict_do_update(
                index_elements=["id"], set_={"n": excluded.n, "text": excluded.text}
            )
        with stopwatch() as watch:
            for batch in _batches(count):
                with engine.begin() as connection:
                    connection.execute(statement, [{"id": i, "n": n, "text": t} for i, n, t in batch])
        engine.dispose()
        _counted(context, count)
        return rate(count, watch)

    return run


POSTGRES = Case(
    name="postgres",
    title="PostgreSQL: rows, a transaction for each 500",
    servers=("postgres",),
    contenders={
        "rambla": _postgres_rambla(),
        "rambla, upsert": _postgres_rambla(upsert=True),
        "psycopg COPY of 500": _postgres_copy,
        "SQLAlchemy insert of 500": _postgres_sqlalchemy(upsert=False),
        "SQLAlchemy upsert of 500": _postgres_sqlalchemy(upsert=True),
    },
    goals=(
        Goal("rambla / SQLAlchemy (at least 3.2)", "rambla", "SQLAlchemy insert of 500", least=3.2),
        Goal("rambla / COPY (at least 0.92)", "rambla", "psycopg COPY of 500", least=0.92),
        Goal("upserts (at least 1.8)", "rambla, upsert", "SQLAlchemy upsert of 500", least=1.8),
    ),
)


def _sqlite_rambla(context: Context) -> Figures:
    count = context.count(50_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        figures = _rows_of(context, f"sqlite:///{path}", count)
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM bench").fetchone() == (count + 1,)
    return figures


def _sqlite_executemany(context: Context) -> Figures:
    count = context.count(50_000)
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "bench.db")
        connection.execute(TABLE)
        with stopwatch() as watch:
            for batch in _batches(count):
                with connection:
                    connection.executemany("INSERT INTO bench VALUES (?, ?, ?)", batch)
        connection.close()
    return rate(count, watch)


SQLITE = Case(
    name="sqlite",
    title="SQLite: rows, a transaction for each 500",
    contenders={"rambla": _sqlite_rambla, "executemany of 500": _sqlite_executemany},
    goals=(Goal("rambla / executemany (at least 0.85)", "rambla", "executemany of 500", least=0.85),),
)
