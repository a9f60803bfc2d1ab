"""Tests of ``AsyncSqlBackend`` on real servers, beyond its contract."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from sql_worker import Base

from rambla_py.sql import AsyncSqlBackend, SqlConnectionLostError, SqlOptionError, SqlStatementError


def test_tasks_work_at_once(base: Base):
    """Tasks have transactions of their own, and none is lost."""
    base.make("id integer primary key, n integer")
    base.db.execute(f"insert into {base.table} values (1, 0)")

    async def main() -> None:
        async with AsyncSqlBackend(base.url, pool_size=4) as db:

            async def step(db: AsyncSqlBackend) -> None:
                await db.execute(f"update {base.table} set n = n + 1")

            await asyncio.gather(*[db.run(step) for _ in range(20)])

    asyncio.run(main())
    assert base.rows() == [(1, 20)]


def test_a_task_inside_a_transaction_is_refused(base: Base):
    """A statement of another task would not be part of the transaction that it seems to be in."""
    base.make("id integer primary key")
    insert = f"insert into {base.table} values (:id)"

    async def main() -> None:
        async with AsyncSqlBackend(base.url) as db:
            async with db.transaction():
                await db.execute(insert, {"id": 1})
                with pytest.raises(SqlStatementError, match="another task"):
                    await asyncio.create_task(db.execute(insert, {"id": 2}))
                async with asyncio.timeout(20):
                    await db.execute(insert, {"id": 3})
            await asyncio.create_task(db.execute(insert, {"id": 4}))

    asyncio.run(main())
    assert sorted(base.rows()) == [(1,), (3,), (4,)]


def test_a_cancelled_task_undoes_its_transaction(served: Base):
    """Its connection is not used again with a statement that is still running."""
    served.make("id integer primary key")
    sleep = "select pg_sleep(30)" if served.kind == "postgres" else "select sleep(30)"

    async def main() -> None:
        async with AsyncSqlBackend(served.url, pool_size=1, pool_timeout_s=10) as db:
            began = asyncio.Event()

            async def work() -> None:
                async with db.transaction():
                    await db.execute(f"insert into {served.table} values (1)")
                    began.set()
                    await db.execute(sleep)

            task = asyncio.create_task(work())
            await began.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await db.execute(f"select * from {served.table}")).data == []

    asyncio.run(main())


def test_a_server_that_stops_answering(served: Base):
    """Silence is bounded by ``read_timeout_s``, and counts as a loss; the loop runs meanwhile."""

    async def main() -> None:
        async with AsyncSqlBackend(served.url, read_timeout_s=0.5, connect_timeout_s=0.5, retries=0) as db:
            served.server.pause()
            try:
                began = time.monotonic()
                with pytest.raises(SqlConnectionLostError):
                    await db.execute("select 1")
                assert time.monotonic() - began < 8
            finally:
                served.server.resume()
            assert await db.ping()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "options", "reason"),
    [
        ("postgresq://h/d", {}, "did you mean 'postgresql'"),
        ("postgresql://h/d", {"host": "h"}, "host is given twice"),
        ("sqlite", {"pool_size": 0}, "pool_size"),
    ],
)
def test_options_that_cannot_be_used(url: str, options: dict[str, Any], reason: str):
    """They are checked as those of ``SqlBackend`` are."""
    with pytest.raises(SqlOptionError, match=reason):
        AsyncSqlBackend(url, **options)
