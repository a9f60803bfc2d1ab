"""Tests of values that a database would round, cut or refuse for the way they are written."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sql_worker import ARRAYS, Base
from waiting import kinds

from rambla_py.serialization.json_numbers import JsonNumber
from rambla_py.sql import SqlBackend, SqlDataError

POSTGRES_OPTIONS = [{}, *ARRAYS]
WHOLE = [2.0, -0.0, 1e3, decimal.Decimal("2.0"), decimal.Decimal("1E+3"), JsonNumber("12.000"), "7"]
BROKEN = [2.5, -0.1, decimal.Decimal("2.5"), JsonNumber("2.50"), decimal.Decimal("1E-999999"), "2.5", "25e-1"]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_a_whole_number_fits_an_integer_column(value: Any, base: Base):
    """It is the number that counts, and not the way it is written."""
    base.make("id varchar(40) primary key, v bigint, w smallint")
    with base.worker(columns=["v", "w"]) as w:
        assert w.publish([{"v": 1}, {"v": value, "w": value}, {"w": 3}]) == [None] * 3
    number = int(decimal.Decimal(value))
    assert base.rows("select v, w from {} where v = w") == [(number, number)]


@pytest.mark.parametrize("options", POSTGRES_OPTIONS, ids=str)
@pytest.mark.parametrize("value", BROKEN, ids=repr)
def test_a_fraction_is_refused_alone(value: Any, options: dict[str, Any], served: Base):
    """No database rounds it; the rows around it are written."""
    served.make("id varchar(40) primary key, v integer")
    with served.worker(columns=["v"], **options) as w:
        answers = w.publish([{"v": 1}, {"v": value}, {"v": 3}])
        assert [answer is None for answer in answers] == [True, False, True]
        assert kinds([answers[1]]) == {SqlDataError}
        assert "$.v" in str(answers[1])
        assert "integer" in str(answers[1])
        assert "2.5" not in str(answers[1])
    assert sorted(served.rows("select v from {}")) == [(1,), (3,)]


@pytest.mark.parametrize("value", [decimal.Decimal("1E+999999999"), "1E+999999999", 1e300, 2**70], ids=repr)
def test_a_number_that_no_integer_column_holds(value: Any, served: Base):
    """It is refused without being written out."""
    served.make("id varchar(40) primary key, v integer")
    with served.worker(columns=["v"]) as w:
        answers = w.publish([{"v": 1}, {"v": value}])
    assert [answer is None for answer in answers] == [True, False]


def test_a_column_that_takes_fractions_since(served: Base):
    """A table that was changed while a worker was connected is read again, also for what was refused here."""
    served.make("id varchar(40) primary key, v integer")
    with served.worker(columns=["v"]) as w:
        assert kinds(w.publish([{"v": 2.5}])) == {SqlDataError}
        new = "modify v double" if served.kind == "mariadb" else "alter v type double precision"
        served.db.execute(f"alter table {served.table} {new}")
        (lost,) = w.publish([{"v": 2.5}])
        assert lost is w.connection.lost
    with served.worker(columns=["v"]) as w:
        assert w.publish([{"v": 2.5}]) == [None]


# -- times ----------------------------------------------------------------------------------------

SAME = [
    "2026-01-02T03:04:05+02:00",
    "2026-01-02 03:04:05 +0200",
    "2026-01-02 03:04:05+2",
    "2026-01-02T01:04:05Z",
    "2026-01-02 01:04:05 UTC",
    "20260102T010405Z",
    "2026-01-02 02:04:05 Europe/Oslo",
    "Fri, 02 Jan 2026 03:04:05 +0200",
    "Thu, 01 Jan 2026 20:04:05 EST",
]


@pytest.mark.parametrize("options", POSTGRES_OPTIONS, ids=str)
def test_a_text_with_a_zone_keeps_its_instant(options: dict[str, Any], served: Base):
    """A column without zones holds it in UTC, as it does for a ``datetime``; the database drops the zone."""
    kind = {"mariadb": "datetime", "postgres": "timestamp"}[served.kind]
    served.make(f"id varchar(40) primary key, v {kind}")
    with served.worker(columns=["v"], **options) as w:
        assert w.publish([{"v": text} for text in SAME]) == [None] * len(SAME)
    expected = datetime.datetime(2026, 1, 2, 1, 4, 5)
    assert served.rows("select v from {}") == [(expected,)] * len(SAME)


@pytest.fixture
def far_east(mariadb: Base) -> Iterator[Base]:
    """MariaDB while its sessions are in another time zone than UTC."""
    with SqlBackend(mariadb.url) as admin:
        admin.execute("set global time_zone = '+09:00'")
        try:
            yield mariadb
        finally:
            admin.execute("set global time_zone = 'SYSTEM'")


def test_a_timestamp_column_keeps_the_instant_whatever_the_servers_zone(far_east: Base):
    """MariaDB converts times of such a column from the session's zone, which therefore is UTC."""
    far_east.make("id varchar(40) primary key, v timestamp null, w datetime")
    with far_east.worker(columns=["v", "w"]) as w:
        assert w.publish([{"v": text, "w": text} for text in SAME]) == [None] * len(SAME)
    seconds = datetime.datetime(2026, 1, 2, 1, 4, 5, tzinfo=datetime.UTC).timestamp()
    assert far_east.rows("select distinct unix_timestamp(v), v = w from {}") == [(seconds, 1)]


def test_a_zone_that_the_url_sets_stays(far_east: Base):
    """``init_command`` is the way back to another zone."""
    command = "init_command=set%20time_zone%3D'%2B05%3A00'"
    for url, zone in ((far_east.url, "+00:00"), (f"{far_east.url}?{command}", "+05:00")):
        with SqlBackend(url) as db:
            assert db.execute("select @@session.time_zone as zone").first == {"zone": zone}


def test_a_text_with_milliseconds_in_a_column_that_was_created(served: Base):
    """The type of create_table keeps the instant and the milliseconds of JSON's times."""
    columns = {"v": "payload.v::timestamptz", "w": "payload.w::timestamp"}
    text = "2024-01-15T10:30:00.123Z"
    with served.worker(columns=columns, create_table=True) as w:
        assert w.publish([{"v": text, "w": text}]) == [None]
    expected = datetime.datetime(2024, 1, 15, 10, 30, 0, 123_000)
    ((v, naive),) = served.rows("select v, w from {}")
    assert naive == expected
    assert v in (expected, expected.replace(tzinfo=datetime.UTC))


def test_a_text_without_a_zone_is_left_to_the_database(served: Base):
    """What has no zone is not touched, and NULL is NULL."""
    kind = {"mariadb": "datetime", "postgres": "timestamp"}[served.kind]
    served.make(f"id varchar(40) primary key, v {kind}")
    texts = ["2026-01-02T03:04:05", "2026-01-02 03:04:05", None, datetime.date(2026, 1, 2)]
    if served.kind == "postgres":
        texts += ["2026-01-02 03:04:05 am", "Jan 2 03:04:05 2026", "03:04:05 Jan 2 2026"]
    with served.worker(columns=["v"]) as w:
        assert w.publish([{"v": text} for text in texts]) == [None] * len(texts)
    at = datetime.datetime(2026, 1, 2, 3, 4, 5)
    found = [v for (v,) in served.rows("select v from {}")]
    assert found.count(at) == len(texts) - 2
    assert {v for v in found if v != at} == {None, datetime.datetime(2026, 1, 2)}


@pytest.mark.parametrize("text", ["2026-01-02 03:04:05 XYZ", "0001-01-01T00:00:00+14:00"])
def test_a_zone_that_cannot_be_read(text: str, served: Base):
    """The message is refused alone: without its zone the time would be another one."""
    kind = {"mariadb": "datetime", "postgres": "timestamp"}[served.kind]
    served.make(f"id varchar(40) primary key, v {kind}")
    with served.worker(columns=["v"]) as w:
        first, second = w.publish([{"v": text}, {"v": None}])
    assert (type(first), second) == (SqlDataError, None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(
    times=st.lists(
        st.datetimes(
            datetime.datetime(1900, 1, 2),
            datetime.datetime(2100, 1, 1),
            timezones=st.integers(-959, 959).map(  # what PostgreSQL reads
                lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
            ),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_text_and_object_are_one_time(times: list[datetime.datetime], postgres: Base):
    """Any time is stored the same, as an object and as its text."""
    postgres.db.execute(
        f"create table if not exists {postgres.table} (id text, a timestamp, b timestamp, c timestamptz)"
    )
    with postgres.worker(columns=["a", "b", "c"]) as w:
        assert set(w.publish([{"a": at, "b": str(at), "c": at.isoformat()} for at in times])) == {None}
    sql = "select count(*) from {} where a is distinct from b or c is distinct from a at time zone 'UTC'"
    assert postgres.rows(sql) == [(0,)]


# -- arrays ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", POSTGRES_OPTIONS, ids=str)
def test_lists_fill_array_columns(options: dict[str, Any], postgres: Base):
    """A list is an array; a string is its literal, and a list for another column stays JSON."""
    postgres.make(
        "id varchar(40) primary key, n integer[], words text[], deep integer[][], at timestamp[], js jsonb[], "
        "b bytea[], x numeric[], yes boolean[], f double precision[], j jsonb, t text"
    )
    zone = datetime.timezone(datetime.timedelta(hours=2))
    payload = {
        "n": [1, None, 2.0],
        "words": ['a"b\\c', "", "NULL", None, "é, {x}", 7, b"ok"],
        "deep": [[1, 2], (3, 4)],
        "at": [datetime.datetime(2026, 1, 2, 3, 4, tzinfo=zone), "2026-01-02T03:04:00+02:00"],
        "js": [{"a": [1]}, [1, 2], "x"],
        "b": [b"\x00\xff"],
        "x": [decimal.Decimal("1.50"), JsonNumber("0.10000000000000000001")],
        "yes": [True, False],
        "f": [0.1, float("inf")],
        "j": [1, 2],
        "t": [1, 2],
    }
    with postgres.worker(columns=list(payload), **options) as w:
        assert w.publish([payload, {"n": [], "words": "{a,b}"}]) == [None, None]
        broken = w.publish([{"n": [1, 2.5]}, {"deep": [[1], [2, 3]]}, {"n": [3]}])
    assert [answer is None for answer in broken] == [False, False, True]
    at = datetime.datetime(2026, 1, 2, 1, 4)
    expected = {
        **payload,
        "n": [1, None, 2],
        "words": ['a"b\\c', "", "NULL", None, "é, {x}", "7", "ok"],
        "deep": [[1, 2], [3, 4]],
        "at": [at, at],
        "x": [decimal.Decimal("1.50"), decimal.Decimal("0.10000000000000000001")],
        "t": "[1,2]",
    }
    found = postgres.rows(f"select {', '.join(payload)} from {{}} where t is not null")
    assert [dict(zip(payload, row, strict=True)) for row in found] == [expected]
    assert postgres.rows("select n, words from {} where words = '{{a,b}}'") == [([], ["a", "b"])]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    words=st.lists(
        st.none() | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), max_size=5
    )
)
def test_any_list_of_strings(words: list[str | None], postgres: Base):
    """Strings of an array arrive as they are."""
    postgres.db.execute(f"create table if not exists {postgres.table} (id text, v text[])")
    postgres.db.execute(f"delete from {postgres.table}")
    with postgres.worker(columns=["v"]) as w:
        assert w.publish([{"v": words}]) == [None]
    assert postgres.rows("select v from {}") == [(words,)]


# -- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", POSTGRES_OPTIONS, ids=str)
def test_numbers_of_json_text_keep_their_digits(options: dict[str, Any], base: Base):
    """In columns of numbers and of JSON; SQLite keeps them in JSON and text."""
    kind = "text" if base.kind == "sqlite" else "numeric(40, 25)"
    js = {"sqlite": "text", "postgres": "jsonb", "mariadb": "text"}[base.kind]
    base.make(f"id varchar(40) primary key, n {kind}, big {kind.replace('25', '0')}, j {js}, rest {js}")
    big = 123456789012345678901234567890 if base.kind != "sqlite" else 2**63 - 1
    text = f'{{"n": 0.1000000000000000000000001, "big": {big}, '
    text += '"j": {"v": [0.1000000000000000000000001]}, "r": 1.00000000000000000001}'
    with base.worker(
        columns={"n": "payload.n", "big": "payload.big", "j": "payload.j::json"},
        json_column="rest",
        **options,
    ) as w:
        message = w.message(text, policy={"format": "object"})
        assert w.deliver([message]) == [None]
    ((n, found),) = base.rows("select n, big from {}")
    assert decimal.Decimal(n) == decimal.Decimal("0.1000000000000000000000001")
    assert int(found) == big
    cast = "char" if base.kind == "mariadb" else "text"
    ((j, rest),) = base.rows(f"select cast(j as {cast}) as j, cast(rest as {cast}) as rest from {{}}")
    assert "0.1000000000000000000000001" in j
    assert "1.00000000000000000001" in rest
