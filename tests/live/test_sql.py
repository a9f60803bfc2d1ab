"""This module tests the sql handler against real databases."""

from __future__ import annotations

import datetime
import decimal
import enum
import os
import select
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
import sqlalchemy
from database_fixtures import client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sql_worker import Base, pick
from waiting import in_background, kinds, wait_until

import rambla_py as rambla
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    PermanentError,
    RejectedError,
    SerializationError,
    UnknownOutcomeError,
)
from rambla_py.sql import (
    SqlAccessError,
    SqlBackend,
    SqlConflictError,
    SqlConnectionLostError,
    SqlDataError,
    SqlIntegrityError,
    SqlPermissionError,
    SqlStatementError,
    SqlTls,
    SqlTooLargeError,
    SqlUnknownOutcomeError,
)
from rambla_py.testing.databases import DatabaseServer, MariaDbServer, PostgresServer
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import Server, TlsFiles

Proxies = Callable[[Server], FaultProxy]
KINDS = ("sqlite", "postgres", "mariadb")


@pytest.fixture(params=KINDS)
def base(request: pytest.FixtureRequest, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    """Each of the databases in turn."""
    made = pick(request.param, request.getfixturevalue, tmp_path, unique_name)
    yield made
    made.db.disconnect()


@pytest.fixture
def postgres(postgres_server: PostgresServer, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    made = pick("postgres", lambda name: postgres_server, tmp_path, unique_name)
    yield made
    made.db.disconnect()


@pytest.fixture
def mariadb(mariadb_server: MariaDbServer, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    made = pick("mariadb", lambda name: mariadb_server, tmp_path, unique_name)
    yield made
    made.db.disconnect()


@pytest.fixture(params=("postgres", "mariadb"))
def served(request: pytest.FixtureRequest, tmp_path: Path, unique_name: str) -> Iterator[Base]:
    """Each of the databases that have a server."""
    made = pick(request.param, request.getfixturevalue, tmp_path, unique_name)
    yield made
    made.db.disconnect()


# -- rows -----------------------------------------------------------------------------------------


def test_without_columns(base: Base):
    """A row holds the id and the whole payload as JSON."""
    with base.worker(create_table=True) as w:
        messages = [w.message({"n": 1}, "a"), w.message("two\nlines", "b"), w.message(None, "c")]
        assert w.deliver(messages) == [None] * 3
    found = base.rows("select id, payload from {} order by id", payload="json")
    assert found == [("a", {"n": 1}), ("b", "two\nlines"), ("c", None)]


def test_listed_columns(base: Base):
    """Listed columns take the keys of the payload with their names; what is missing is NULL."""
    base.make("id varchar(40), city varchar(40), total integer")
    with base.worker(columns=["city", "total"]) as w:
        w.deliver([w.message({"city": "Tab\tand\\slash\n", "total": 3, "more": 1}, "a"), w.message({}, "b")])
    assert base.rows("select id, city, total from {} order by id") == [
        ("a", "Tab\tand\\slash\n", 3),
        ("b", None, None),
    ]


def test_mapped_columns(base: Base):
    """Columns come from paths into the payload, a list in it, headers and the key; the rest is JSON."""
    columns = {
        "city": "payload.address.city::varchar(40)",
        "first": "payload.lines.0",
        "total": "payload.total::integer",
        "trace": "headers.trace",
        "owner": "key",
    }
    with base.worker(columns=columns, json_column="rest", create_table=True) as w:
        payload = {"address": {"city": "Oslo"}, "lines": ["x", "y"], "total": 3, "more": [1]}
        assert w.deliver([w.message(payload, "a", key="k", trace="t")]) == [None]
    names = "id, city, first, total, trace, owner"
    assert base.rows(f"select {names} from {{}}") == [("a", "Oslo", "x", 3, "t", "k")]
    # Only what a column took whole is left out: the address holds more than its city.
    ((rest,),) = base.rows("select rest from {}", rest="json")
    assert rest == {"address": {"city": "Oslo"}, "lines": ["x", "y"], "more": [1]}


def test_a_table_that_is_there_is_left_as_it_is(base: Base):
    """``create_table`` makes nothing where a table of that name is."""
    base.make("id varchar(40), payload text, more integer default 7")
    with base.worker(create_table=True) as w:
        w.deliver([w.message({"n": 1}, "a")])
    assert base.rows() == [("a", '{"n":1}', 7)]


def test_names_that_need_quotes(base: Base):
    """Names of tables and columns are quoted, whatever stands in them."""
    base.table = 'order"%s'
    with base.worker(columns={"select %d": "payload.a", 'b"': "payload.b"}, create_table=True) as w:
        assert w.publish([{"a": "1", "b": "2"}]) == [None]
        if base.kind == "postgres":
            with base.worker(columns={"select %d": "payload.a"}, copy=False) as by_insert:
                assert by_insert.publish([{"a": "3"}]) == [None]
    with base.db.transaction():
        mark = "`" if base.kind == "mariadb" else '"'
        name = base.table.replace(mark, mark * 2)
        base.db.execute(f"drop table {mark}{name}{mark}")


def test_values(base: Base):
    """What Python has types for arrives in columns of such types."""
    kind = {"sqlite": "text", "postgres": "uuid", "mariadb": "char(36)"}[base.kind]
    blob = {"sqlite": "blob", "postgres": "bytea", "mariadb": "blob"}[base.kind]
    base.make(
        f"id varchar(40), at timestamp, day date, price numeric(20, 5), u {kind}, b {blob}, color text, list text"
    )
    color = enum.Enum("Color", {"RED": "red"})
    payload = {
        "at": datetime.datetime(2026, 2, 28, 12, 30),
        "day": datetime.date(2026, 2, 28),
        "price": decimal.Decimal("12.5"),
        "u": uuid.UUID(int=7),
        "b": bytes(range(256)),
        "color": color.RED,
        "list": [1, {"a": "b"}],
    }
    with base.worker(columns=list(payload)) as w:
        assert w.publish([payload]) == [None]
    ((_, at, day, price, u, b, color_text, text),) = base.rows()
    assert str(at)[:16] == "2026-02-28 12:30"
    assert str(day) == "2026-02-28"
    assert float(price) == 12.5
    assert str(u) == str(uuid.UUID(int=7))
    assert bytes(b) == bytes(range(256))
    assert (color_text, text) == ("red", '[1,{"a":"b"}]')


def test_a_moment_keeps_its_time(base: Base):
    """A time with a zone is never taken for another time: a column without zones holds it in UTC."""
    zoned = {"sqlite": "text", "postgres": "timestamptz", "mariadb": "datetime"}[base.kind]
    base.make(f"id varchar(40), a timestamp, b {zoned}")
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    with base.worker(columns=["a", "b"]) as w:
        assert w.publish([{"a": at, "b": at}]) == [None]
    ((a, b),) = base.rows("select a, b from {}")
    if base.kind == "sqlite":  # which keeps text, with the zone in it
        assert (a, b) == (str(at), str(at))
    else:
        assert str(a) == "2026-01-02 01:04:05"
        assert (b if b.tzinfo else b.replace(tzinfo=datetime.UTC)) == at


def test_bytes_for_a_column_of_text(base: Base):
    """Bytes become text where the column holds text; what is no text is refused with its path."""
    base.make("id varchar(40), t text")
    with base.worker(columns=["t"]) as w:
        answers = w.publish([{"t": "é".encode()}, {"t": b"\xff"}])
    assert answers[0] is None
    assert type(answers[1]) is SerializationError
    assert answers[1].path == "$.t"
    assert base.rows("select t from {}") == [("é",)]


def test_an_unserializable_value_in_a_column(base: Base):
    """The error names the path to the value; the rows around it are written."""
    base.make("id varchar(40), a text, payload text")
    with base.worker(columns=["a"], json_column="payload") as w:
        answers = w.publish([{"a": 1}, {"a": {"b": [object()]}}, {"c": {"d": object()}}, {"a": 2}])
    assert [type(answer) for answer in answers] == [
        type(None),
        SerializationError,
        SerializationError,
        type(None),
    ]
    assert (answers[1].path, answers[2].path) == ("$.a.b[0]", "$.c.d")
    assert len(base.rows()) == 2


def test_a_payload_without_fields(base: Base):
    """Columns cannot be taken out of text: fatal, and the error says what to send."""
    base.make("id varchar(40), a text")
    with base.worker(columns=["a"]) as w:
        answers = w.publish([{"a": "x"}, "text", [1]])
    assert answers[0] is None
    assert kinds(answers[1:]) == {PermanentError}
    assert "send a mapping" in str(answers[1])


def test_a_struct_has_fields(base: Base):
    """Objects that become JSON objects have columns too."""

    class Order(msgspec.Struct):
        city: str
        day: datetime.date

    base.make("id varchar(40), city text, day date")
    with base.worker(columns=["city", "day"]) as w:
        assert w.publish([Order("Oslo", datetime.date(2026, 2, 28))]) == [None]
    ((city, day),) = base.rows("select city, day from {}")
    assert (city, str(day)) == ("Oslo", "2026-02-28")


@pytest.mark.parametrize("value", ["'); drop table x; --", '"', "\\'", "%s", ":a", {"x'y": "z'"}, ["a'b"]])
def test_values_are_never_sql(value: Any, base: Base):
    """Quotes, percent signs and containers are values, and nothing else."""
    base.make("id varchar(40), a text")
    with base.worker(columns=["a"]) as w:
        assert w.publish([{"a": value}, {"a": "next"}]) == [None, None]
    expected = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    assert sorted(base.rows("select a from {}")) == sorted([(expected,), ("next",)])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), max_size=9)
)
def test_any_text_by_copy(texts: list[str], postgres: Base):
    """Text of any kind comes out of COPY as it went in."""
    postgres.db.execute(f"create table if not exists {postgres.table} (id text, a text)")
    postgres.db.execute(f"delete from {postgres.table}")
    with postgres.worker(columns=["a"]) as w:
        w.publish([{"a": text} for text in texts])
    assert postgres.rows("select a from {} order by ctid") == [(text,) for text in texts]


# -- upsert ---------------------------------------------------------------------------------------


def test_upsert(base: Base):
    """A message whose id is there replaces the row, in one batch too: the last one counts."""
    with base.worker(create_table=True, upsert=True) as w:
        assert w.deliver([w.message(n, "a") for n in range(3)] + [w.message(9, "b")]) == [None] * 4
        assert w.deliver([w.message(7, "a"), w.message(8, "c")]) == [None] * 2
    assert dict(base.rows("select id, payload from {}", payload="json")) == {"a": 7, "b": 9, "c": 8}


def test_upsert_beside_a_refused_row(base: Base):
    """The rows around one that is refused replace each other as they would without it."""
    base.make("id varchar(40) primary key, n integer not null")
    with base.worker(columns=["n"], upsert=True) as w:
        given = [("a", 1), ("b", 1), ("x", None), ("a", 2), ("b", 2), ("c", 1)]
        answers = w.deliver([w.message({"n": n}, name) for name, n in given])
    assert [type(answer) for answer in answers].index(SqlIntegrityError) == 2
    assert sum(answer is not None for answer in answers) == 1
    assert sorted(base.rows()) == [("a", 2), ("b", 2), ("c", 1)]


def test_upsert_of_the_id_alone(base: Base):
    """Where there is nothing but the id, a second message changes nothing."""
    base.make("id varchar(40) primary key")
    with base.worker(columns={"id": "id"}, upsert=True) as w:
        assert w.deliver([w.message(1, "a"), w.message(2, "a"), w.message(3, "b")]) == [None] * 3
    assert sorted(base.rows()) == [("a",), ("b",)]


def test_upsert_keeps_what_columns_it_does_not_name(base: Base):
    """Columns that the channel does not write keep their values, and get their defaults."""
    base.make("id varchar(40) primary key, a text, seen integer default 5 not null")
    with base.worker(columns=["a"], upsert=True) as w:
        w.deliver([w.message({"a": "1"}, "x")])
        base.db.execute(f"update {base.table} set seen = 6")
        w.deliver([w.message({"a": "2"}, "x"), w.message({"a": "3"}, "y")])
    assert sorted(base.rows("select id, a, seen from {}")) == [("x", "2", 6), ("y", "3", 5)]


@pytest.mark.parametrize("upsert", [False, True])
def test_without_copy(upsert: bool, postgres: Base):
    """PostgreSQL takes rows by INSERT as well, bad ones included."""
    postgres.make("id varchar(40) primary key, a integer")
    with postgres.worker(columns=["a"], upsert=upsert, copy=False) as w:
        answers = w.publish([{"a": n if n != 7 else "seven"} for n in range(20)])
    assert [at for at, answer in enumerate(answers) if answer is not None] == [7]
    assert len(postgres.rows()) == 19


ARRAYS = [{"upsert": True}, {"copy": False}]


@pytest.mark.parametrize("options", ARRAYS, ids=str)
def test_columns_of_many_types_by_arrays(options: dict[str, Any], postgres: Base):
    """What the server reads of a text in COPY, it reads of a text in an array, nulls and quotes included."""
    for made in (
        "type {}_mood as enum ('fine', 'so so')",
        "domain {}_short as varchar(3) check (value <> 'no')",
    ):
        postgres.db.execute("create " + made.format(postgres.table))
    postgres.make(
        "id varchar(40) primary key, n integer, x numeric(6, 2), f double precision, yes boolean, c char(3), "
        "bits bit(3), words varchar(3)[], j jsonb, at timestamptz(0), gap interval, b bytea, t text, "
        f"mood {postgres.table}_mood, short {postgres.table}_short"
    )
    payloads = [
        {"n": 1, "x": "1.239", "f": 0.1, "yes": True, "c": "ab", "bits": "101", "words": '{"a,b",NULL}'},
        {
            "n": None,
            "x": decimal.Decimal("2.5"),
            "f": 7,
            "yes": "no",
            "j": {"a": [1]},
            "t": "a\"b\\c,{}\n'%s",
        },
        {
            "n": -(2**31),
            "gap": datetime.timedelta(days=1, seconds=5),
            "b": bytes(range(256)),
            "mood": "so so",
        },
        {"at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), "short": "abc", "t": ""},
    ]
    columns = ["n", "x", "f", "yes", "c", "bits", "words", "j", "at", "gap", "b", "t", "mood", "short"]
    with postgres.worker(columns=columns, **options) as w:
        assert w.publish(payloads) == [None] * 4
    rows = postgres.rows(f"select {', '.join(columns)} from {{}} order by id")
    found = [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None} for row in rows
    ]
    assert found == [
        {
            "n": 1,
            "x": decimal.Decimal("1.24"),
            "f": 0.1,
            "yes": True,
            "c": "ab ",
            "bits": "101",
            "words": ["a,b", None],
        },
        {"x": decimal.Decimal("2.50"), "f": 7.0, "yes": False, "j": {"a": [1]}, "t": "a\"b\\c,{}\n'%s"},
        payloads[2],
        payloads[3],
    ]


@pytest.mark.parametrize("options", [{}, *ARRAYS], ids=str)
def test_a_database_that_knows_of_no_encoding(options: dict[str, Any], postgres: Base):
    """It keeps the bytes that it is given: those of UTF-8."""
    name = f"{postgres.table}_ascii"
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute(
            f"create database {name} encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0"
        )
    url = sqlalchemy.make_url(postgres.url).set(database=name).render_as_string(hide_password=False)
    with postgres.worker(url=url, columns=["a"], create_table=True, **options) as w:
        assert w.publish([{"a": "é ☃"}]) == [None]
    with psycopg.connect(url, client_encoding="UTF8") as connection:
        assert connection.execute(f"select a from {postgres.table}").fetchall() == [("é ☃",)]


@pytest.mark.parametrize("options", ARRAYS, ids=str)
@pytest.mark.parametrize(
    ("column", "bad"),
    [
        ("v varchar(3)", "abcd"),
        ("v char(3)", "abcd"),
        ("v bit(3)", "1011"),
        ("v varchar(3)[]", "{abcd}"),
        ("v numeric(3, 1)", "1000"),
        ("v {}_inner", "abcd"),
        ("v {}_outer", "abcd"),
        ("v {}_outer", "no"),
        ("v text", "a\x00b"),
        ("v integer", "one"),
    ],
)
def test_a_value_is_never_cut_to_fit(column: str, bad: str, options: dict[str, Any], postgres: Base):
    """A cast would cut it in silence; the message is refused alone, as by COPY."""
    postgres.db.execute(f"create domain {postgres.table}_inner as varchar(3)")
    postgres.db.execute(
        f"create domain {postgres.table}_outer as {postgres.table}_inner check (value <> 'no')"
    )
    postgres.make(f"id varchar(40) primary key, {column.format(postgres.table)}")
    with postgres.worker(columns=["v"], **options) as w:
        answers = w.publish([{"v": None}, {"v": bad}, {"v": None}])
    assert [answer is None for answer in answers] == [True, False, True]
    assert kinds([answers[1]]) <= {SqlDataError, SqlIntegrityError}
    assert postgres.rows("select v from {}") == [(None,), (None,)]


# -- rows that are refused ------------------------------------------------------------------------


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
    """A server that is not strict is told to be: a value that does not fit is refused, never cut."""
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
    """While another transaction has the table the batch fails, to be tried again; nothing of it is there."""
    base.make("id varchar(40) primary key, a integer")
    urls = {
        "postgres": f"{base.url}?options=-c%20lock_timeout%3D100",
        "mariadb": f"{base.url}?init_command=set%20innodb_lock_wait_timeout%3D1",
        "sqlite": f"{base.url}?timeout=0.1",
    }
    taken = {
        "postgres": f"lock table {base.table}",
        "mariadb": f"insert into {base.table} values ('a', 1)",
        "sqlite": f"insert into {base.table} values ('a', 1)",
    }
    with base.worker(url=urls[base.kind], columns=["a"]) as w:
        base.db.begin()
        base.db.execute(taken[base.kind])
        answers = w.deliver([w.message({"a": 1}, "b"), w.message({"a": 1}, "a")])
        base.db.rollback()
        assert kinds(answers) == {SqlConflictError}
        assert isinstance(answers[0], RejectedError)
        assert answers[0].retryable
        assert w.deliver([w.message({"a": 1}, "b"), w.message({"a": 1}, "a")]) == [None, None]
    assert len(base.rows()) == 2


# -- connecting -----------------------------------------------------------------------------------


def test_a_table_that_is_not_there(base: Base):
    """Connecting fails with the name of the table and what to do, so messages wait."""
    base.db.connect()
    error = base.refusal()
    assert type(error) is SqlStatementError
    assert f"there is no table '{base.table}'" in str(error)
    assert "create_table = true" in str(error)


def test_a_column_that_is_not_there(base: Base):
    """Connecting fails with the name of the column, and the nearest one."""
    base.make("id varchar(40), city text")
    error = base.refusal(columns=["citty"])
    assert type(error) is SqlStatementError
    assert "has no column 'citty'; did you mean 'city'?" in str(error)


def test_an_upsert_without_a_key(base: Base):
    """Connecting fails: each message would be refused, or on MySQL come twice. A view is left to the server."""
    base.make("id varchar(40), payload text")
    error = base.refusal(upsert=True)
    assert type(error) is SqlStatementError
    assert "no unique key on 'id'" in str(error)
    base.db.execute(f"create unique index {base.table}_i on {base.table} (id)")
    view = f"{base.table}_v"
    base.db.execute(f"create view {view} as select * from {base.table}")
    for table in (base.table, view) if base.kind != "sqlite" else (base.table,):
        with base.worker(table=table, upsert=True) as w:
            assert w.deliver([w.message(1, "a")]) == [None]
            assert w.deliver([w.message(2, "a")]) == [None]
        assert base.rows() == [("a", "2")]


def test_a_table_that_goes_meanwhile(base: Base):
    """A table that is dropped while the worker runs counts as a loss: the messages wait until it is back."""
    columns = "id varchar(40), payload text"
    base.make(columns)
    with base.worker() as w:
        assert w.publish([1]) == [None]
        base.db.execute(f"drop table {base.table}")
        answers = w.publish([2, 3])
    assert kinds(answers) == {SqlConnectionLostError}
    assert f"there is no table '{base.table}'" in str(answers[0])
    base.make(columns)
    with base.worker() as w:
        assert w.publish([2, 3]) == [None, None]
    assert len(base.rows()) == 2


def test_a_table_that_goes_is_made_again(base: Base):
    """With ``create_table`` the next connection makes it, so nothing is lost."""
    table = {"table": base.table, "create_table": True, "backoff": {"initial_s": 0.01}}
    channel = {"orders": {"options": table}}
    with rambla.Rambla({"sql": {"connections": {"main": {"url": base.url}}, "channels": channel}}) as app:
        app.publish("orders", 1).result(timeout_s=20)
        base.db.execute(f"drop table {base.table}")
        outcomes = app.publish_many("orders", [2, 3]).outcomes(timeout_s=20)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
    assert len(base.rows()) == 2


@pytest.mark.parametrize("how", [{"copy": False}, {"upsert": True}, {}])
def test_a_table_that_changes_meanwhile(how: dict[str, Any], postgres: Base):
    """A migration gives a column another type: the next connection looks at it anew, so nothing is lost."""
    postgres.make("id varchar(40) primary key, n integer")
    options = {"table": postgres.table, "columns": ["n"], "backoff": {"initial_s": 0.01}, **how}
    channel = {"orders": {"options": options}}
    with rambla.Rambla({"sql": {"connections": {"main": {"url": postgres.url}}, "channels": channel}}) as app:
        app.publish("orders", {"n": 1}).result(timeout_s=20)
        postgres.db.execute(f"alter table {postgres.table} alter n type text")
        outcomes = app.publish_many("orders", [{"n": 2}, {"n": "three"}]).outcomes(timeout_s=20)
    assert [outcome.status for outcome in outcomes] == ["ok", "ok"]
    assert sorted(n for (n,) in postgres.rows("select n from {}")) == ["1", "2", "three"]


def test_what_the_user_may_not_write(postgres: Base):
    """A missing right is fatal for each message: the table is there, and no reconnect would help."""
    postgres.make("id varchar(40), payload text")
    postgres.db.execute(f"create role r_{postgres.table} login password 's3cret'")
    server = postgres.server
    url = f"postgresql://r_{postgres.table}:s3cret@{server.host}:{server.port}/{server.database}"
    with postgres.worker(url=url) as w:
        answers = w.publish([1, 2])
        assert kinds(answers) == {SqlPermissionError}
        assert not answers[0].retryable
        postgres.db.execute(f"grant insert on {postgres.table} to r_{postgres.table}")
        assert w.publish([1, 2]) == [None, None]


def test_many_workers_make_one_table(base: Base):
    """Workers that start together all find the table, whoever made it."""

    def work() -> list[Any]:
        with base.worker(create_table=True) as w:
            return w.publish([1])

    runs = [in_background(work) for _ in range(6)]
    for thread, _ in runs:
        thread.join(20)
    assert [answers for _, answers in runs] == [[None]] * 6
    assert len(base.rows()) == 6


def test_wrong_password(served: Base):
    """Refused credentials are an ``AccessError`` that does not tell the password."""
    server: DatabaseServer = served.server
    error = served.refusal(server.url_at(server.host, server.port, "hunter2-canary"), create_table=True)
    assert isinstance(error, AccessError)
    assert "hunter2-canary" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"


def test_tls(served: Base, tls_files: TlsFiles):
    """With TLS the server's certificate is checked against the authority and the name."""
    trusting = {"tls": SqlTls(ca_file=str(tls_files.authority))}
    with served.worker(trusting, create_table=True) as w:
        assert w.publish([1]) == [None]
        cursor = w.connection.raw.cursor()
        if served.kind == "postgres":
            cursor.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
            assert cursor.fetchone() == (True,)
        else:
            cursor.execute("show status like 'Ssl_cipher'")
            assert cursor.fetchone()[1]


def test_tls_by_an_unknown_authority(served: Base):
    """A certificate that nobody known has signed is refused; ``verify = false`` takes it."""
    assert type(served.refusal(settings={"tls": True})) is SqlAccessError
    with served.worker({"tls": SqlTls(verify=False)}, create_table=True) as w:
        assert w.publish([1]) == [None]


def test_a_file_that_is_not_there(tmp_path: Path, unique_name: str):
    """Without ``create_table`` nobody makes an empty file of a URL with a slip in it."""
    base = pick("sqlite", str, tmp_path, unique_name)
    refused = base.refusal()
    assert type(refused) is SqlConnectionLostError
    assert "there is no such file" in str(refused)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path, unique_name: str):
    """Connecting to what is no database fails, so messages wait."""
    base = pick("sqlite", str, tmp_path, unique_name)
    (tmp_path / "shop.db").write_bytes(b"no database at all" * 100)
    assert type(base.refusal(create_table=True)) is SqlConnectionLostError
    base.db.disconnect()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("oracle://u:canary@h/d", "known are sqlite, postgresql, mysql and mariadb"),
        ("postgresql+asyncpg://u:canary@h/d", "by pysqlite, psycopg and pymysql"),
        ("canary no url", "not of the form"),
        ("postgresql://u:canary@h:port/d", "not of the form"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, told: str):
    """A wrong URL is refused with the configuration, and is not quoted."""
    table = {"connections": {"main": {"url": url}}, "channels": {"orders": {}}}
    with pytest.raises(rambla.ConfigError) as caught:
        rambla.load_config({"sql": table})
    assert told in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"columns": {"a": "payloda.x"}}, "comes from 'payloda.x'"),
        ({"columns": ["a"], "json_column": "a"}, "named twice"),
        ({"upsert": True, "id_column": ""}, "upsert without an id_column"),
        ({"id_column": "", "json_column": ""}, "no column at all"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], told: str):
    """A wrong mapping is refused with the configuration."""
    table = {
        "connections": {"main": {"url": "sqlite://"}},
        "channels": {"orders": {"options": options}},
    }
    with pytest.raises(rambla.ConfigError, match=told):
        rambla.load_config({"sql": table})


# -- losses ---------------------------------------------------------------------------------------


def test_a_loss_before_the_write(served: Base):
    """A connection that ended while idle: nothing was applied, and no outcome is unknown."""
    with served.worker(create_table=True) as w:
        served.server.restart()
        assert kinds(w.publish(["x"])) == {SqlConnectionLostError}
        with pytest.raises(ConnectionLostError):
            w.handler.ping(w.connection)
        assert kinds(w.publish(["x"])) == {SqlConnectionLostError}
    assert served.rows() == []


@pytest.mark.parametrize("upsert", [False, True])
def test_a_loss_during_the_commit(upsert: bool, served: Base, fault_proxy: Proxies):
    """When the answer to the commit does not come the outcome is unknown, for each message."""
    proxy = fault_proxy(served.server)
    url = served.server.url_at(proxy.host, proxy.port)
    with served.worker(url=url, create_table=True, upsert=upsert) as w:
        assert w.publish(["x"]) == [None]
        before = proxy.bytes_down
        assert w.publish(["y"] * 3) == [None] * 3
        # The same batch has the same answers: all but the last few bytes of them are let through.
        proxy.cut_after(proxy.bytes_down - before - 4, direction="down")
        answers = w.publish(["z"] * 3)
    assert kinds(answers) == {SqlUnknownOutcomeError}
    assert isinstance(answers[0], UnknownOutcomeError)
    assert proxy.cuts == 1
    assert len(served.rows()) >= 2


@pytest.mark.parametrize("options", [{}, *ARRAYS], ids=str)
@pytest.mark.parametrize("how", ["cut", "terminated"])
def test_a_connection_that_went_while_it_was_idle(
    how: str, options: dict[str, Any], postgres: Base, fault_proxy: Proxies
):
    """It is noticed before anything is written: what comes next is unsent, and not unknown."""
    proxy = fault_proxy(postgres.server)
    url = postgres.server.url_at(proxy.host, proxy.port)
    with postgres.worker(url=url, create_table=True, **options) as w:
        assert w.publish(["x"]) == [None]
        if how == "cut":
            proxy.cut()
        else:
            cursor = w.connection.raw.execute("SELECT pg_backend_pid()")
            postgres.db.execute("SELECT pg_terminate_backend(:pid)", {"pid": cursor.fetchone()[0]})
        wait_until(lambda: bool(select.select([w.connection.raw.fileno()], [], [], 0)[0]))
        assert kinds(w.publish(["y"] * 3)) == {SqlConnectionLostError}
    assert len(postgres.rows()) == 1


def test_a_loss_in_the_middle_of_a_batch(served: Base, fault_proxy: Proxies):
    """A batch that was not written whole is not applied at all."""
    proxy = fault_proxy(served.server)
    url = served.server.url_at(proxy.host, proxy.port)
    with served.worker(url=url, create_table=True) as w:
        # More than sockets hold, so that it is the writing that fails.
        proxy.cut_after(1_000_000)
        answers = w.publish(["x" * 40_000] * 500)
    assert kinds(answers) == {SqlConnectionLostError}
    assert len(answers) == 500
    assert served.rows() == []


def test_a_server_that_stops_answering(served: Base):
    """Silence is bounded by ``read_timeout_s``."""
    with served.worker({"read_timeout_s": 0.5}, create_table=True) as w:
        served.server.pause()
        began = time.monotonic()
        answers = w.publish(["a", "b"])
        took_s = time.monotonic() - began
        served.server.resume()
    assert 0.4 < took_s < 5
    assert kinds(answers) <= {SqlConnectionLostError, SqlUnknownOutcomeError}
    assert len(answers) == 2


def test_close_wakes_who_waits(served: Base):
    """Closing from another thread ends a wait at once, and twice does no harm."""
    with served.worker({"read_timeout_s": 60}, create_table=True) as w:
        served.server.pause()
        thread, answers = in_background(lambda: w.publish(["a", "b"]))
        wait_until(lambda: w.connection._busy.locked())
        w.close()
        thread.join(10)
        assert not thread.is_alive()
        w.close()
        served.server.resume()
    assert kinds(answers) <= {SqlConnectionLostError, SqlUnknownOutcomeError}
    assert len(answers) == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_connection_alone(base: Base):
    """Closing in a forked child does not close the parent's connection."""
    with base.worker(create_table=True) as w:
        child = os.fork()
        if not child:
            w.close()
            os._exit(0)
        os.waitpid(child, 0)
        assert w.publish(["x"]) == [None]


def test_a_file_that_is_moved_away(tmp_path: Path, unique_name: str):
    """SQLite would go on with the file that was moved: it counts as a loss, and the new file is written."""
    base = pick("sqlite", str, tmp_path, unique_name)
    with base.worker(create_table=True) as w:
        assert w.publish([1]) == [None]
        (tmp_path / "shop.db").rename(tmp_path / "shop.old")
        assert kinds(w.publish([2, 3])) == {SqlConnectionLostError}
    base.db.disconnect()
    with base.worker(create_table=True) as w:
        assert w.publish([2, 3]) == [None, None]
    assert len(SqlBackend(base.url).execute(f"select * from {base.table}").data) == 2


def test_a_file_that_may_not_be_written(tmp_path: Path, unique_name: str):
    """It is a matter of access, as a server that is read-only: messages wait for a person."""
    base = pick("sqlite", str, tmp_path, unique_name)
    base.make("id varchar(40), payload text")
    base.db.disconnect()
    with base.worker(url=f"sqlite:///file:{tmp_path}/shop.db?mode=ro&uri=true") as w:
        assert kinds(w.publish([1, 2])) == {SqlAccessError}


# -- callable payloads ----------------------------------------------------------------------------


def test_destination(base: Base):
    """A callable payload is given the driver's own connection, in autocommit."""
    with base.worker(create_table=True) as w:
        cursor = w.handler.destination(w.connection).cursor()
        cursor.execute(f"insert into {base.table} (id) values ('by hand')")
        assert base.rows("select id from {}") == [("by hand",)]


def test_ping(base: Base):
    """A ping asks the server, and raises once the connection is closed."""
    with base.worker(create_table=True) as w:
        w.handler.ping(w.connection)
        w.close()
        with pytest.raises(ConnectionLostError):
            w.handler.ping(w.connection)


def test_the_server_really_runs(served: Base):
    """The plain driver sees what the handler wrote."""
    with served.worker(create_table=True) as w, closing(client(served.server)) as plain:
        w.publish([1])
        cursor = plain.cursor()
        cursor.execute(f"select count(*) from {served.table}")
        assert cursor.fetchone() == (1,)
