"""Tests of the rows that the sql handler writes."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

import msgspec
import psycopg
import pytest
import sqlalchemy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sql_worker import ARRAYS, Base
from waiting import kinds

from rambla_py.errors import (
    PermanentError,
    SerializationError,
)
from rambla_py.sql import (
    SqlDataError,
    SqlIntegrityError,
)


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
