"""Instrumented engines of SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from call_recorder import CallRecorder
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import StaticPool

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
def recorder() -> CallRecorder:
    return CallRecorder()


def test_statements_are_tracked_without_their_parameters(engine: Engine, recorder: CallRecorder) -> None:
    """One event for each, many rows included; the dialect goes along."""
    instrument_sqlalchemy(engine, recorder)
    with engine.begin() as connection:
        connection.execute(INSERT, [{"id": 1, "name": "canary"}, {"id": 2, "name": "canary"}])
        assert connection.execute(text("SELECT count(*) FROM items")).scalar() == 2
    assert recorder.queries == [
        {"query": "INSERT INTO items (id, name) VALUES (?, ?)", "success": True, "dialect": "sqlite"},
        {"query": "SELECT count(*) FROM items", "success": True, "dialect": "sqlite"},
    ]


def test_statements_that_fail_are_tracked_with_the_error_of_the_driver(
    engine: Engine, recorder: CallRecorder
) -> None:
    """The error passes on; the next statement is tracked as ever."""
    instrument_sqlalchemy(engine, recorder)
    with engine.connect() as connection:
        with pytest.raises(OperationalError):
            connection.execute(text("SELECT * FROM nothing"))
        connection.execute(INSERT, {"id": 1, "name": "a"})
        with pytest.raises(IntegrityError):
            connection.execute(INSERT, {"id": 1, "name": "canary"})
    found = [(event["success"], event.get("error_type")) for event in recorder.queries]
    assert found == [(False, "OperationalError"), (True, None), (False, "IntegrityError")]
    assert "canary" not in repr(recorder.queries)


def test_a_statement_inside_a_statement_has_its_own_time(engine: Engine, recorder: CallRecorder) -> None:
    """Such as one that a listener of the application runs on the same connection."""

    def audit(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("INSERT"):
            with engine.connect() as other:
                other.execute(text("SELECT 1"))

    instrument_sqlalchemy(engine, recorder)
    event.listen(engine, "before_cursor_execute", audit)
    with engine.begin() as connection:
        connection.execute(INSERT, {"id": 1, "name": "a"})
    assert [event["query"][:6] for event in recorder.queries] == ["SELECT", "INSERT"]


def test_an_asynchronous_engine_is_tracked_too(recorder: CallRecorder, tmp_path: Path) -> None:
    """By the engine inside it."""

    async def main() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/a.db")
        instrumentation = instrument_sqlalchemy(engine, recorder)
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            with pytest.raises(OperationalError):
                await connection.execute(text("SELECT * FROM nothing"))
            instrumentation.uninstrument()
            await connection.execute(text("SELECT 2"))
        await engine.dispose()

    asyncio.run(main())
    assert [event["success"] for event in recorder.queries] == [True, False]


def test_uninstrument_ends_the_tracking(engine: Engine, recorder: CallRecorder) -> None:
    """A second call has no effect."""
    instrumentation = instrument_sqlalchemy(engine, recorder)
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    assert recorder.queries == []


def test_what_runs_in_a_worker_is_left_alone(engine: Engine, recorder: CallRecorder) -> None:
    """It may be what writes the events."""
    instrument_sqlalchemy(engine, recorder)
    enter_worker()
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    finally:
        leave_worker()
    assert recorder.queries == []


def test_a_tracker_that_fails_does_not_reach_the_application(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once."""

    class Broken:
        def track_db_query(self, *args: object, **fields: object) -> None:
            raise RuntimeError("broken")

    instrument_sqlalchemy(engine, Broken())
    with engine.connect() as connection:
        assert [connection.execute(text(f"SELECT {number}")).scalar() for number in range(3)] == [0, 1, 2]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
