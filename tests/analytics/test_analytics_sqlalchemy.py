"""Instrumented engines of SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from analytics_requests import Tracked, tracked
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

from rambla_py.analytics import Tracker
from rambla_py.analytics.instrument.sqlalchemy import instrument_sqlalchemy
from rambla_py.runtime.worker_threads import enter_worker, leave_worker

INSERT = text("INSERT INTO items (id, name) VALUES (:id, :name)")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = create_engine("sqlite://", poolclass=StaticPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)"))
    yield engine
    engine.dispose()


@pytest.fixture
def case() -> Iterator[Tracked]:
    with tracked() as case:
        yield case


def test_statements_are_tracked_without_their_parameters(engine: Engine, case: Tracked) -> None:
    """One event for each, many rows included; the dialect goes along."""
    instrument_sqlalchemy(engine, case.tracker)
    with engine.begin() as connection:
        connection.execute(INSERT, [{"id": 1, "name": "canary"}, {"id": 2, "name": "canary"}])
        assert connection.execute(text("SELECT count(*) FROM items")).scalar() == 2
    assert [(event["query_type"], event["query_text"], event["query_success"]) for event in case.queries] == [
        ("INSERT", "INSERT INTO items (id, name) VALUES (?)", True),
        ("SELECT", "SELECT count(*) FROM items", True),
    ]
    assert all(event["query_duration_ms"] >= 0 for event in case.queries)


def test_statements_that_fail_are_tracked_with_the_error_of_the_driver(engine: Engine, case: Tracked) -> None:
    """The error passes on; the next statement is tracked as ever."""
    instrument_sqlalchemy(engine, case.tracker)
    with engine.connect() as connection:
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT * FROM nothing"))
        connection.execute(INSERT, {"id": 1, "name": "a"})
        with pytest.raises(IntegrityError):
            connection.execute(INSERT, {"id": 1, "name": "canary"})
    found = [(event["query_success"], event["properties"].get("error_type")) for event in case.queries]
    assert found == [(False, "OperationalError"), (True, None), (False, "IntegrityError")]
    assert "canary" not in repr(case.queries)


def test_a_statement_inside_a_statement_has_its_own_time(engine: Engine, case: Tracked) -> None:
    """Such as one that a listener of the application runs on the same connection."""

    def audit(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("INSERT"):
            with engine.connect() as other:
                other.execute(text("SELECT 1"))

    instrument_sqlalchemy(engine, case.tracker)
    event.listen(engine, "before_cursor_execute", audit)
    with engine.begin() as connection:
        connection.execute(INSERT, {"id": 1, "name": "a"})
    assert [event["query_type"] for event in case.queries] == ["SELECT", "INSERT"]


def test_an_asynchronous_engine_is_tracked_too(case: Tracked, tmp_path: Path) -> None:
    """By the engine inside it."""

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/a.db")
        instrumentation = instrument_sqlalchemy(engine, case.tracker)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            with pytest.raises(OperationalError):
                await connection.execute(text("SELECT * FROM nothing"))
            instrumentation.uninstrument()
            await connection.execute(text("SELECT 2"))
        await engine.dispose()

    asyncio.run(main())
    assert [event["query_success"] for event in case.queries] == [True, False]


def test_uninstrument_ends_the_tracking(engine: Engine, case: Tracked) -> None:
    """A second call has no effect."""
    instrumentation = instrument_sqlalchemy(engine, case.tracker)
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert case.queries == []


def test_what_runs_in_a_worker_is_left_alone(engine: Engine, case: Tracked) -> None:
    """It may be what writes the events."""
    instrument_sqlalchemy(engine, case.tracker)
    enter_worker()
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    finally:
        leave_worker()
    assert case.queries == []


def test_literals_leave_the_text_in_the_dialect_of_the_engine(engine: Engine, case: Tracked) -> None:
    """Backslashes end no string of SQLite, as the tracker knows by its dialect."""
    instrument_sqlalchemy(engine, case.tracker)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 'a\\', 'canary', name FROM items")
    (event,) = case.queries
    assert event["query_text"] == "SELECT ?, ?, name FROM items"


def test_not_even_debugging_breaks_a_statement(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    """What a tracker raises is logged once."""

    class Broken(Tracker):
        def track_db_query(self, *args: object, **fields: object) -> NoReturn:
            raise RuntimeError("broken")

    with Broken("null:") as tracker:
        instrument_sqlalchemy(engine, tracker)
        with engine.connect() as connection:
            numbers = [connection.execute(text(f"SELECT {number}")).scalar() for number in range(3)]
    assert numbers == [0, 1, 2]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
