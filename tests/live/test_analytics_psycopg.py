"""Cursors of psycopg that track their statements."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
from analytics_requests import Tracked, tracked
from psycopg import sql

from rambla_py.analytics.instrument.psycopg import async_psycopg_cursor, psycopg_cursor
from rambla_py.testing.databases import PostgresServer


@pytest.fixture
def case() -> Iterator[Tracked]:
    with tracked() as case:
        yield case


def test_statements_of_cursors_are_tracked(postgres_server: PostgresServer, case: Tracked) -> None:
    """Each way to run one; the parameters never."""
    cursor_factory = psycopg_cursor(case.tracker)
    with psycopg.connect(postgres_server.url, cursor_factory=cursor_factory) as connection:
        connection.execute("CREATE TEMP TABLE items (id int, name text)")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO items VALUES (%s, %s)", [(1, "canary"), (2, "canary")])
            assert list(cursor.stream("SELECT id FROM items ORDER BY id")) == [(1,), (2,)]
            with cursor.copy("COPY items FROM STDIN") as copy:
                copy.write_row((3, "canary"))
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("items")))
            assert cursor.fetchone() == (3,)
            cursor.execute(b"SELECT 1")
        connection.rollback()
    assert [event["query_text"] for event in case.queries] == [
        "CREATE TEMP TABLE items (id int, name text)",
        "INSERT INTO items VALUES (?)",
        "SELECT id FROM items ORDER BY id",
        None,  # COPY is left out, because what follows may be data
        'SELECT count(*) FROM "items"',
        "SELECT ?",
    ]
    assert all(event["query_success"] for event in case.queries)


def test_statements_that_fail_are_tracked(postgres_server: PostgresServer, case: Tracked) -> None:
    """With the name of the error, which passes on."""
    cursor_factory = psycopg_cursor(case.tracker)
    with psycopg.connect(postgres_server.url, cursor_factory=cursor_factory, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nothing")
        with pytest.raises(TypeError):
            connection.execute(17)  # type: ignore[call-overload]  # what it must refuse
        cursor_factory.uninstrument()
        connection.execute("SELECT 1")
    found = [(event["query_text"], event["properties"]["error_type"]) for event in case.queries]
    assert found == [("SELECT * FROM nothing", "UndefinedTable"), (None, "TypeError")]


def test_asynchronous_cursors_are_tracked(postgres_server: PostgresServer, case: Tracked) -> None:
    """The same for each way to run a statement."""

    async def main() -> None:
        cursor_factory = async_psycopg_cursor(case.tracker)
        connection = await psycopg.AsyncConnection.connect(
            postgres_server.url, cursor_factory=cursor_factory, autocommit=True
        )
        async with connection, connection.cursor() as cursor:
            await cursor.execute("CREATE TEMP TABLE items (id int)")
            await cursor.executemany("INSERT INTO items VALUES (%s)", [(1,), (2,)])
            assert [row async for row in cursor.stream("SELECT id FROM items ORDER BY id")] == [(1,), (2,)]
            async with cursor.copy("COPY items FROM STDIN") as copy:
                await copy.write_row((3,))
            with pytest.raises(psycopg.errors.UndefinedTable):
                await cursor.execute("SELECT * FROM nothing")
            cursor_factory.uninstrument()
            await cursor.execute("SELECT 1")

    asyncio.run(main())
    assert [event["query_type"] for event in case.queries] == [
        "CREATE",
        "INSERT",
        "SELECT",
        "COPY",
        "SELECT",
    ]
    assert [event["query_success"] for event in case.queries] == [True, True, True, True, False]
