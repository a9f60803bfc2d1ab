"""Tests of what ``SqlBackend`` writes, reads and refuses on real servers, beyond its contract."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
import sqlalchemy
from sql_worker import Base

from rambla_py.sql import (
    SqlBackend,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlOptionError,
    SqlStatementError,
)
from rambla_py.testing.databases import DatabaseServer


def chain(error: BaseException) -> list[BaseException]:
    """Return an error with its causes; fails on a loop."""
    found: list[BaseException] = []
    one: BaseException | None = error
    while one is not None:
        assert all(one is not other for other in found), f"an error is its own cause: {one!r}"
        found.append(one)
        one = one.__cause__
    return found


def test_parts_beside_the_url(served: Base):
    """Parts need no percent-encoding; a part that the URL has as well is refused."""
    server: DatabaseServer = served.server
    parts: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "database": server.database,
        "username": server.user,
        "password": server.password,
        "charset": "utf8" if served.kind == "postgres" else "utf8mb4",
    }
    for url in (server.scheme, f"{server.scheme}://"):
        with SqlBackend(url, **parts, pool_size=2) as db:
            assert db.execute("select :a as a", {"a": "Grüße 😀"}).data == [{"a": "Grüße 😀"}]
    with pytest.raises(SqlOptionError, match="host is given twice"):
        SqlBackend(server.url, host="other")
    password = "a/b#c?d@e"  # wrong on purpose
    with pytest.raises(SqlConnectionLostError) as caught:
        SqlBackend(server.scheme, **{**parts, "password": password}).connect()
    assert not any(password in repr(error) for error in chain(caught.value))


@pytest.mark.parametrize(
    ("url", "parts", "reason"),
    [
        ("sqlite", {"host": "h"}, "SQLite with a host"),
        ("sqlite", {"charset": "utf8"}, "charset cannot be set for sqlite"),
        ("postgresql", {"port": "5432"}, "port must be an integer"),
        ("postgresql", {"password": 7}, "password must be a string"),
        ("mysql", {"charset": "nonsense"}, "wrong value for the parameter 'charset'"),
        ("mysql://h?charset=utf8", {"charset": "utf8"}, "charset is given twice"),
        ("postgresq", {}, "did you mean 'postgresql'"),
        ("postgresql", {"pool_size": 0}, "pool_size"),
    ],
)
def test_parts_that_cannot_be_used(url: str, parts: dict[str, Any], reason: str):
    """Options are checked before anything is opened; the error is a ``SqlError`` and a ``ValueError``."""
    with pytest.raises(SqlOptionError, match=reason) as caught:
        SqlBackend(url, **parts)
    assert isinstance(caught.value, SqlError)
    assert isinstance(caught.value, ValueError)


def test_a_stream_needs_little_memory(served: Base):
    """Of a large result one batch is in memory, whatever it has in all."""
    rows, width = 20_000, 500
    served.make(f"id integer primary key, t varchar({width})")
    with SqlBackend(served.url) as db:
        db.execute_many(
            f"insert into {served.table} values (?, ?)", [[at, "x" * width] for at in range(rows)]
        )
        tracemalloc.start()
        with db.stream(f"select * from {served.table} order by id", batch_size=100) as stream:
            assert sum(1 for _ in stream) == rows
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < rows * width / 4


def test_a_stream_beside_statements_in_its_transaction(served: Base):
    """PostgreSQL runs both; MySQL's connection is busy with the rows, so the statement is refused."""
    served.make("id integer primary key")
    with SqlBackend(served.url) as db:
        db.execute_many(f"insert into {served.table} values (?)", [[at] for at in range(50)])
        with db.transaction(), db.stream(f"select id from {served.table}", batch_size=10) as stream:
            next(stream)
            if served.kind == "postgres":
                assert db.execute("select 1 as one").data == [{"one": 1}]
            else:
                with pytest.raises(SqlStatementError, match="a stream is open"):
                    db.execute("select 1 as one")
            assert len(list(stream)) == 49


def test_an_abandoned_stream_returns_its_connection(served: Base):
    """A loop that breaks leaves a stream without a reference; the pool gets its connection back."""
    served.make("id integer primary key")
    with SqlBackend(served.url, pool_size=1, pool_timeout_s=5) as db:
        db.execute_many(f"insert into {served.table} values (?)", [[at] for at in range(50)])
        for _ in db.stream(f"select id from {served.table}", batch_size=10):
            break
        assert db.execute("select 1 as one").data == [{"one": 1}]


def test_values_that_would_be_changed_are_refused(base: Base):
    """NaN is NULL on SQLite, and a number out of range is clipped by a MySQL that is not strict."""
    base.make("id integer primary key, n smallint, d double precision")
    insert = f"insert into {base.table} values (1, :n, :d)"
    if base.kind != "postgres":
        with pytest.raises(SqlDataError, match=r"(?i)nan"):
            base.db.execute(insert, {"n": 1, "d": float("nan")})
    if base.kind != "sqlite":
        with pytest.raises(SqlDataError):
            base.db.execute(insert, {"n": 1 << 20, "d": 1.0})
    with pytest.raises(SqlDataError) as caught:
        base.db.execute(
            insert, {"n": 1 << 70, "d": 1.0} if base.kind == "sqlite" else {"n": "\ud800", "d": 1}
        )
    assert len(chain(caught.value)) > 1
    assert base.rows() == []


def test_returning_after_a_comment(base: Base):
    """RETURNING is not part of a comment at the end of the statement."""
    base.make("id integer primary key")
    made = base.db.execute(f"insert into {base.table} values (1) -- the first", returning=["id"])
    assert made.data == [{"id": 1}]
    with pytest.raises(SqlStatementError, match="list of column names"):
        base.db.execute(f"insert into {base.table} values (2)", returning="id")
    with pytest.raises(SqlStatementError, match="twice"):
        base.db.execute(f"insert into {base.table} values (2)", returning=["id", "id"])
    with pytest.raises(SqlStatementError, match="one row"):
        base.db.execute(f"insert into {base.table} values (:id)", [{"id": 2}], returning=["id"])
    assert base.rows() == [(1,)]


def test_expressions_get_all_their_values(base: Base):
    """Rows of an expression have the same names, and no value is without a placeholder."""
    base.make("id integer primary key, n integer")
    columns: list[sqlalchemy.Column[Any]] = [sqlalchemy.Column("id"), sqlalchemy.Column("n")]
    table = sqlalchemy.Table(base.table, sqlalchemy.MetaData(), *columns)
    insert, n = sqlalchemy.insert(table), sqlalchemy.bindparam("number")
    wrong: list[tuple[Any, Any, str]] = [
        (insert, [{"id": 1}, {"id": 2, "n": 3}], "row 1 has other names"),
        (insert, [{"id": 1}, 2], "row 1 is a int"),
        (insert, {"id": 1, "m": 2}, "m"),
        (insert, "ab", "got str"),
        (sqlalchemy.select(table).where(table.c.id == n), {"number": 1, "other": 2}, "'other'"),
        (sqlalchemy.delete(table).where(table.c.id == n), {"number": 1, "other": 2}, "'other'"),
    ]
    for sql, params, reason in wrong:
        with pytest.raises(SqlStatementError, match=reason):
            base.db.execute(sql, params)
    with pytest.raises(SqlStatementError, match="did you mean 'id'"):
        base.db.execute(insert.values(id=1), returning=["idd"])
    with pytest.raises(SqlStatementError, match="types of its columns"):
        base.db.execute(insert.values(id=1), column_types={"id": "integer"})
    assert base.rows() == []
    base.db.execute_many(insert, [{"id": 1, "n": 1}, {"id": 2, "n": 2}])
    assert base.rows() == [(1, 1), (2, 2)]


def test_no_error_is_its_own_cause(base: Base):
    """An error that is a ``SqlError`` already is raised as it is, so that its chain of causes ends."""
    base.make("id integer primary key")
    for sql in ("selec", "select * from nowhere", f"insert into {base.table} values ('x', 1)"):
        with pytest.raises(SqlError) as caught:
            base.db.execute(sql)
        assert chain(caught.value)
    lost = SqlConnectionLostError("gone")
    with pytest.raises(SqlConnectionLostError) as same, base.db._executor.mapping():
        raise lost
    assert chain(same.value) == [lost]
