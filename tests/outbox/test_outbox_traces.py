"""Traces of messages that ``outbox.publish`` stores: their context is in the row, and goes on from there."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from small_apps import probe, table
from sqlalchemy.ext.asyncio import create_async_engine
from traced import Spans, attributes, is_child, traceparent

from rambla_py import NoTransactionError, OptionError, Rambla, outbox
from rambla_py.outbox.codec import load_value
from rambla_py.telemetry.otel import RamblaInstrumentor, instrument

OWN = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an outbox, with its tables."""
    found = tmp_path / "shop.db"
    with closing(sqlite3.connect(found)) as connection:
        connection.executescript("PRAGMA journal_mode = WAL;" + outbox.ddl("sqlite"))
    return found


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection with an open transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as made:
        made.execute("BEGIN")
        yield made


def app_at(path: Path, handle: Any = None, **telemetry: Any) -> dict[str, Any]:
    rambla = {"outbox": {"url": f"sqlite:///{path}"}, "telemetry": telemetry}
    return table(probe(handle or (lambda message: None)), durable=True) | {"rambla": rambla}


def contexts(connection: sqlite3.Connection) -> list[str | None]:
    """Return the ``traceparent`` in each row that was stored."""
    rows = connection.execute("SELECT options FROM rambla_arrival").fetchall()
    return [load_value(options)["headers"]["traceparent"] if options else None for (options,) in rows]


def test_a_relay_sends_a_stored_message_under_the_span_that_stored_it(path: Path) -> None:
    """The app that stores it does not run; the one that delivers finds the context in the row."""
    web, relay, received = Spans(), Spans(), []
    stores = Rambla(app_at(path))
    with closing(sqlite3.connect(path)) as connection, web.of(stores), web.caller() as caller, connection:
        connection.execute("BEGIN")
        outbox.publish(connection, "orders", 1, app=stores, id="m1")
    (create,) = web.named("create orders")
    assert is_child(create, caller)
    assert attributes(create)["messaging.message.id"] == "m1"
    delivers = Rambla(app_at(path, lambda message: received.append(dict(message.headers))))
    with relay.of(delivers), delivers:
        (send,) = relay.named("send orders")
    assert received == [{"traceparent": traceparent(create)}]
    assert is_child(send, create)
    assert web.names() == ["caller", "create orders"]


async def publish_async(path: Path, app: Rambla) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    async with engine.begin() as connection:
        await outbox.publish_async(connection, "orders", 1, app=app)
        await outbox.publish_many_async(connection, "orders", [2, 3], app=app)
    await engine.dispose()


@pytest.mark.parametrize("is_async", [False, True])
def test_each_message_has_the_context_of_its_own_span(path: Path, is_async: bool) -> None:
    """With all four functions."""
    spans, app = Spans(), Rambla(app_at(path))
    with closing(sqlite3.connect(path)) as connection, spans.of(app):
        with spans.caller():
            if is_async:
                asyncio.run(publish_async(path, app))
            else:
                connection.execute("BEGIN")
                outbox.publish(connection, "orders", 1, app=app)
                outbox.publish_many(connection, "orders", [2, 3], app=app)
                connection.commit()
        assert contexts(connection) == [traceparent(create) for create in spans.named("create orders", 3)]


def test_a_context_that_the_user_gives_is_stored(connection: sqlite3.Connection, path: Path) -> None:
    """Without a caller's span nothing is added; a caller that is not sampled is passed on."""
    spans, unsampled, app = Spans(), Spans.unsampled(), Rambla(app_at(path))
    with spans.of(app):
        outbox.publish(connection, "orders", 1, app=app)
        with spans.caller():
            outbox.publish(connection, "orders", 2, app=app, headers={"traceparent": OWN})
        with unsampled.caller() as caller:
            outbox.publish(connection, "orders", 3, app=app)
    assert contexts(connection) == [None, OWN, traceparent(caller)]
    assert spans.names() == ["caller"]


def test_a_call_that_raises_ends_its_span_with_the_error(path: Path) -> None:
    """A refused option, and a connection without a transaction; without a span none is stored."""
    spans, app = Spans(), Rambla(app_at(path))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection, spans.of(app), spans.caller():
        with pytest.raises(OptionError):
            outbox.publish_many(connection, "orders", [1], app=app, retries="many")
        with pytest.raises(NoTransactionError):
            outbox.publish(connection, "orders", 1, app=app)
        failed = spans.named("create orders", 2)
    assert [attributes(span)["error.type"] for span in failed] == ["OptionError", "NoTransactionError"]
    assert {span.status.status_code for span in failed} == {StatusCode.ERROR}


def test_the_last_span_of_an_app_that_does_not_run_ends_with_its_call(
    connection: sqlite3.Connection, path: Path
) -> None:
    """Nothing would look at it later; it counts what its call left out."""
    spans, app = Spans(), Rambla(app_at(path))
    end = instrument(app, tracer_provider=spans.provider, max_spans=2)
    with spans.caller() as caller:
        outbox.publish_many(connection, "orders", range(5), app=app)
        creates = spans.named("create orders", 2)
    end()
    assert [attributes(create).get("rambla.create.left_out") for create in creates] == [None, 3]
    assert contexts(connection) == [*map(traceparent, creates), *[traceparent(caller)] * 3]


@pytest.mark.parametrize("way", ["the configuration", "the instrumentor"])
def test_an_app_that_does_not_run_is_traced_as_one_that_starts(
    connection: sqlite3.Connection, path: Path, way: str
) -> None:
    """Its first ``outbox.publish`` instruments it."""
    spans = Spans()
    if way == "the instrumentor":
        RamblaInstrumentor().instrument(tracer_provider=spans.provider)
    try:
        app = Rambla(app_at(path, traces=way == "the configuration", create_spans=False))
        with spans.caller() as caller:
            outbox.publish(connection, "orders", 1, app=app)
            (stored,) = contexts(connection)
    finally:
        RamblaInstrumentor().uninstrument()
    if way == "the configuration":
        assert stored == traceparent(caller)
    else:
        assert stored == traceparent(spans.named("create orders")[0])
