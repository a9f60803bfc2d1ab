"""Tests of the sql handler behind PgBouncer, which pools transactions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from server_fixtures import require
from sql_worker import Base
from waiting import kinds

from rambla_py.sql import SqlConnectionLostError, SqlDataError
from rambla_py.sql.dialects.postgresql_errors import postgres_error
from rambla_py.testing import PgBouncer, PostgresServer


@pytest.fixture
def pooler(postgres_server: PostgresServer) -> Iterator[PgBouncer]:
    """One that changes the session after each transaction: it takes the sessions in turns."""
    require(PgBouncer)
    with PgBouncer(postgres_server, config=["server_round_robin = 1", "min_pool_size = 3"]) as made:
        yield made


@pytest.mark.parametrize("options", [{}, {"copy": False}, {"copy": False, "upsert": True}], ids=str)
def test_behind_a_transaction_pooler(options: dict[str, Any], postgres: Base, pooler: PgBouncer):
    """Two connections write batches with refused rows for longer than a session lives: nothing is lost."""
    postgres.make("id varchar(40) primary key, n integer")
    with (
        postgres.worker(url=pooler.url, columns=["n"], **options) as a,
        postgres.worker(url=pooler.url, columns=["n"], **options) as b,
    ):
        for _ in range(20):
            for one in (a, b):
                one.handler.ping(one.connection)
                answers = one.publish([{"n": 1}, {"n": "x"}, {"n": 2}])
                assert [answer is None for answer in answers] == [True, False, True]
                assert kinds([answers[1]]) == {SqlDataError}
        assert (a.connection.lost, b.connection.lost) == (None, None)
    assert postgres.rows("select n, count(*) from {} group by n order by n") == [(1, 40), (2, 40)]


def test_statements_that_a_pooler_lost(postgres: Base, pooler: PgBouncer):
    """With prepared statements behind a pooler the connection is lost, and no message is refused."""
    postgres.make("id varchar(40) primary key, n integer")
    answers: list[Any] = []
    with (
        postgres.worker(url=pooler.url, columns=["n"], upsert=True) as a,
        postgres.worker(url=pooler.url, columns=["n"], upsert=True) as b,
    ):
        for n in range(20):
            for one in (a, b):
                answers += one.publish([{"n": n}])
    failed = [answer for answer in answers if answer is not None]
    assert failed
    assert kinds(failed) == {SqlConnectionLostError}
    assert "copy = false" in str(failed[0])
    assert len(postgres.rows()) == len(answers) - len(failed)


@pytest.mark.parametrize(
    "kind", [psycopg.errors.DuplicatePreparedStatement, psycopg.errors.InvalidSqlStatementName]
)
def test_errors_of_prepared_statements(kind: type[psycopg.Error]):
    """Both are losses: the message has no part in them."""
    error = postgres_error(kind("prepared statement"))
    assert type(error) is SqlConnectionLostError
    assert error.code in ("42P05", "26000")
