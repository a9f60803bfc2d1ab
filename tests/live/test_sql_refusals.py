"""Tests of rows that a database refuses, and of locks."""

from __future__ import annotations

from pathlib import Path

import pytest
from sql_worker import Base, pick
from waiting import kinds

from rambla_py.errors import (
    UnavailableError,
)
from rambla_py.sql import (
    SqlDataError,
    SqlIntegrityError,
    SqlTooLargeError,
    SqlUnavailableError,
)


@pytest.mark.parametrize("upsert", [False, True])
@pytest.mark.parametrize("bad", [{0}, {499}, {250}, {3, 4, 444}, set(range(40)), set(range(460, 500))])
def test_refused_rows_are_found(bad: set[int], upsert: bool, base: Base):
    """Of five hundred only the rows that a constraint refuses fail; the others are there, in order."""
    base.make("id varchar(40) primary key, n integer not null, place integer")
    with base.worker(columns=["n", "place"], upsert=upsert) as w:
        answers = w.publish([{"n": None if n in bad else n, "place": n} for n in range(500)])
    assert {at for at, answer in enumerate(answers) if answer is not None} == bad
    assert kinds([answers[at] for at in bad]) == {SqlIntegrityError}
    assert sorted(n for (n,) in base.rows("select n from {}")) == [n for n in range(500) if n not in bad]


def test_all_rows_are_refused(base: Base):
    """A batch without a good row leaves nothing, and each has its error."""
    base.make("id varchar(40), n integer not null")
    with base.worker(columns=["n"]) as w:
        assert kinds(w.publish([{"n": None}] * 50)) == {SqlIntegrityError}
        assert w.publish([{"n": 1}]) == [None]
    assert len(base.rows()) == 1


def test_a_constraint_that_is_checked_at_the_commit(postgres: Base):
    """A deferred constraint tells only then, and not whose it is: its row is found all the same."""
    postgres.make("id text, n integer unique deferrable initially deferred")
    with postgres.worker(columns=["n"]) as w:
        answers = w.publish([{"n": n if n != 30 else 3} for n in range(40)])
        assert w.publish([{"n": 41}]) == [None]
    assert [at for at, answer in enumerate(answers) if answer is not None] == [30]
    assert type(answers[30]) is SqlIntegrityError
    assert len(postgres.rows()) == 40


def test_a_foreign_key_that_is_checked_at_the_commit(tmp_path: Path, unique_name: str):
    """The same on SQLite."""
    base = pick("sqlite", str, tmp_path, unique_name)
    base.db.execute("create table parents (n integer primary key)")
    base.db.execute("insert into parents values (1)")
    base.make("id text, n integer references parents (n) deferrable initially deferred")
    with base.worker(columns=["n"]) as w:
        answers = w.publish([{"n": 1 if n != 5 else 2} for n in range(10)])
    assert [at for at, answer in enumerate(answers) if answer is not None] == [5]
    assert len(base.rows()) == 9
    base.db.disconnect()


def test_a_value_that_the_driver_cannot_send(base: Base):
    """A lone surrogate fails its message alone."""
    base.make("id varchar(40), a text")
    with base.worker(columns=["a"]) as w:
        answers = w.publish([{"a": "x"}, {"a": "\ud800"}, {"a": "y"}])
    assert [type(answer) for answer in answers] == [type(None), SqlDataError, type(None)]
    assert len(base.rows()) == 2


def test_too_large_for_the_server(mariadb: Base):
    """A row over ``max_allowed_packet`` is fatal before it is sent, with both sizes; the others are written."""
    with mariadb.worker(create_table=True) as w:
        answers = w.publish(["x" * 1_500_000, "x" * 2_500_000, "\\" * 1_500_000, "y"])
    assert [type(answer) for answer in answers] == [
        type(None),
        SqlTooLargeError,
        SqlTooLargeError,
        type(None),
    ]
    assert "the server's limit, max_allowed_packet, is 2097152" in str(answers[1])
    assert not answers[1].retryable
    assert len(mariadb.rows()) == 2


def test_a_server_that_would_cut_values(mariadb: Base):
    """A server that is not strict is made strict: a value that does not fit is refused, never truncated."""
    mariadb.make("id varchar(40), a varchar(3)")
    mariadb.db.execute("set global sql_mode = ''")
    try:
        with mariadb.worker(columns=["a"]) as w:
            answers = w.publish([{"a": "abc"}, {"a": "abcd"}])
    finally:
        mariadb.db.execute("set global sql_mode = default")
    assert [type(answer) for answer in answers] == [type(None), SqlDataError]
    assert mariadb.rows("select a from {}") == [("abc",)]


def test_a_table_without_transactions(mariadb: Base):
    """There too a value that does not fit is refused: MariaDB would put a zero for it, and say that it is well."""
    mariadb.db.execute(f"create table {mariadb.table} (id varchar(40), n integer not null) engine = myisam")
    with mariadb.worker(columns=["n"]) as w:
        answers = w.publish([{"n": 1}, {"n": None}, {"n": 3}])
    assert [type(answer) for answer in answers] == [type(None), SqlIntegrityError, type(None)]
    assert {n for (n,) in mariadb.rows("select n from {}")} == {1, 3}


REFUSALS = {
    "partition": "({columns}) partition by range (n) (partition a values less than (10))",
    "signal": "({columns})",
    "division": "({columns}, part integer as (100 div (n - 10)) stored)",
}


@pytest.mark.parametrize("what", REFUSALS)
def test_refusals_of_mariadb(what: str, mariadb: Base):
    """A row without a partition, one that a trigger or a generated column refuses: it alone is not written."""
    columns = REFUSALS[what].format(columns="id varchar(40), n integer")
    mariadb.db.execute(f"create table {mariadb.table} {columns}")
    if what == "signal":
        mariadb.db.execute(
            f"create trigger {mariadb.table}_b before insert on {mariadb.table} for each row begin "
            "if new.n = 10 then signal sqlstate '45000' set mysql_errno = 31001; end if; end"
        )
    url = f"{mariadb.url}?init_command=set%20sql_mode%3D'ERROR_FOR_DIVISION_BY_ZERO'"
    with mariadb.worker(url=url, columns=["n"]) as w:
        answers = w.publish([{"n": n} for n in range(11)])
    assert [at for at, answer in enumerate(answers) if answer is not None] == [10]
    assert len(mariadb.rows()) == 10


def test_refusals_of_postgres(postgres: Base):
    """A trigger's error of a class that nobody knows concerns its row, and may be tried again."""
    postgres.make("id text, n integer")
    body = "begin if new.n = 3 then raise exception 'no' using errcode = 'XX000'; end if; return new; end"
    postgres.db.execute(
        f"create function {postgres.table}_f() returns trigger language plpgsql as $${body}$$"
    )
    postgres.db.execute(
        f"create trigger b before insert on {postgres.table} for each row execute function {postgres.table}_f()"
    )
    with postgres.worker(columns=["n"]) as w:
        answers = w.publish([{"n": n} for n in range(5)])
    assert [at for at, answer in enumerate(answers) if answer is not None] == [3]
    assert answers[3].retryable
    assert len(postgres.rows()) == 4


def test_a_policy_refuses_a_row(postgres: Base):
    """Row-level security refuses a row, not the user: the others are written."""
    postgres.make("id text, n integer")
    role = f"r_{postgres.table}"
    for sql in (
        f"create role {role} login password 's3cret'",
        f"grant insert on {postgres.table} to {role}",
        f"alter table {postgres.table} enable row level security",
        f"create policy few on {postgres.table} with check (n < 4)",
    ):
        postgres.db.execute(sql)
    server = postgres.server
    url = f"postgresql://{role}:s3cret@{server.host}:{server.port}/{server.database}"
    with postgres.worker(url=url, columns=["n"], copy=False) as w:
        answers = w.publish([{"n": n} for n in range(5)])
    assert [type(answer) for answer in answers] == [type(None)] * 4 + [SqlIntegrityError]


def test_ids_that_the_column_takes_for_one(postgres: Base):
    """Two forms of one UUID in a batch are written one after the other: the last one stays."""
    postgres.make("id uuid primary key, n integer")
    name = "0f8fad5b-d9cb-469f-a165-70867728950e"
    with postgres.worker(columns=["n"], upsert=True) as w:
        assert w.deliver([w.message({"n": 1}, name), w.message({"n": 2}, name.upper())]) == [None] * 2
    assert postgres.rows("select n from {}") == [(2,)]


def test_a_constraint_that_ends_the_transaction(tmp_path: Path, unique_name: str):
    """SQLite's ``ON CONFLICT ROLLBACK`` undoes the rows before as well: they are written all the same."""
    base = pick("sqlite", str, tmp_path, unique_name)
    base.make("id varchar(40), n integer not null on conflict rollback")
    with base.worker(columns=["n"]) as w:
        answers = w.publish([{"n": n if n != 5 else None} for n in range(12)])
    assert [at for at, answer in enumerate(answers) if answer is not None] == [5]
    assert type(answers[5]) is SqlIntegrityError
    assert len(base.rows()) == 11
    base.db.disconnect()


# -- conflicts ------------------------------------------------------------------------------------


def test_a_lock_that_is_not_given(base: Base):
    """While another transaction locks the table the database is unavailable; nothing of the batch is there."""
    base.make("id varchar(40) primary key, a integer")
    urls = {
        "postgres": f"{base.url}?options=-c%20lock_timeout%3D100",
        "mariadb": f"{base.url}?init_command=set%20lock_wait_timeout%3D1",
        "sqlite": f"{base.url}?timeout=0.1",
    }
    taken = {
        "postgres": f"lock table {base.table}",
        "mariadb": f"lock tables {base.table} write",
        "sqlite": f"insert into {base.table} values ('a', 1)",
    }
    with base.worker(url=urls[base.kind], columns=["a"]) as w:
        base.db.begin()
        base.db.execute(taken[base.kind])
        answers = w.deliver([w.message({"a": 1}, "b"), w.message({"a": 1}, "a")])
        base.db.rollback()
        if base.kind == "mariadb":
            base.db.execute("unlock tables")
        assert kinds(answers) == {SqlUnavailableError}
        assert isinstance(answers[0], UnavailableError)
        assert answers[0].scope == "target"
        assert w.deliver([w.message({"a": 1}, "b"), w.message({"a": 1}, "a")]) == [None, None]
    assert len(base.rows()) == 2
