"""Tests of tables that messages name, and of columns that payloads name."""

from __future__ import annotations

from typing import Any

import pytest
from sql_worker import ARRAYS, Base
from waiting import kinds

import rambla_py as rambla
from rambla_py.errors import OptionError, PermanentError
from rambla_py.sql import SqlAccessError, SqlDataError, SqlIntegrityError

OPTIONS = [{}, *ARRAYS]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_payloads_name_their_columns(options: dict[str, Any], base: Base):
    """Missing keys are the column's default, unknown ones refuse that message by the name of the key."""
    base.make("id varchar(40) primary key, city varchar(40) default 'Oslo', total integer default 7")
    with base.worker(**options) as w:
        answers = w.publish(
            [
                {"city": "Rome", "total": 1},
                {"total": 2},
                {"citty": "Rome"},
                {"total": 2.0, "city": None},
                {},
                {"city": "Bern"},
                "no mapping",
                {"id": 5},
            ]
        )
    assert [type(answer) for answer in answers] == [
        *[type(None)] * 2,
        SqlDataError,
        *[type(None)] * 3,
        PermanentError,
        SqlDataError,
    ]
    assert "'citty'; did you mean 'city'?" in str(answers[2])
    assert "id_column" in str(answers[7])
    found = base.rows("select city, total from {}")
    assert sorted(found, key=str) == sorted(
        [("Rome", 1), ("Oslo", 2), (None, 2), ("Oslo", 7), ("Bern", 7)], key=str
    )


def test_payloads_name_columns_of_a_table_without_ids(base: Base):
    """With ``id_column = ""`` a key may be called id."""
    base.make("id integer, n integer")
    with base.worker(id_column="") as w:
        first, second = w.publish([{"id": 1, "n": 2}, {}])
    assert (first, type(second)) == (None, SqlDataError)
    assert base.rows() == [(1, 2)]


def test_a_refused_row_among_payloads_of_many_keys(base: Base):
    """Rows of other columns are one transaction: what a constraint refuses is found among them."""
    base.make("id varchar(40) primary key, a integer, b integer not null default 5, c integer")
    payloads: list[Any] = [{"abc"[n % 3]: n} for n in range(60)]
    payloads[30] = {"b": None}
    with base.worker() as w:
        answers = w.publish(payloads)
    assert [at for at, answer in enumerate(answers) if answer is not None] == [30]
    assert kinds([answers[30]]) == {SqlIntegrityError}
    assert len(base.rows()) == 59


def test_an_upsert_of_other_keys_keeps_the_order(base: Base):
    """A later message with the id of an earlier one replaces what it names."""
    base.make("id varchar(40) primary key, a integer, b integer")
    with base.worker(upsert=True) as w:
        given = [({"a": 1}, "x"), ({"b": 1}, "x"), ({"a": 2}, "x"), ({"b": 2, "a": 3}, "y")]
        assert w.deliver([w.message(payload, name) for payload, name in given]) == [None] * 4
    assert sorted(base.rows("select id, a, b from {}")) == [("x", 2, 1), ("y", 3, 2)]


def test_a_column_that_was_added(base: Base):
    """A key that is unknown makes the worker read the table again."""
    base.make("id varchar(40) primary key, a integer")
    with base.worker() as w:
        assert kinds(w.publish([{"b": 1}])) == {SqlDataError}
        base.db.execute(f"alter table {base.table} add column b integer")
        (lost,) = w.publish([{"b": 1}])
        assert lost is w.connection.lost
    with base.worker() as w:
        assert w.publish([{"b": 1}]) == [None]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_messages_name_their_table(options: dict[str, Any], base: Base):
    """Among those of the channel; a batch is one transaction over all of them."""
    other = f"{base.table}_b"
    base.make("id varchar(40) primary key, n integer not null")
    base.db.execute(f"create table {other} (id varchar(40) primary key, n bigint not null)")
    conf = {
        "sql": {
            "connections": {"m": {"url": base.url}},
            "channels": {
                "t": {"options": {"tables": [base.table, other], "columns": ["n"], "retries": 0, **options}}
            },
        }
    }
    with rambla.Rambla(conf) as app:
        receipts = [
            app.publish("t", {"n": n if n != 5 else None}, **({"table": other} if n % 2 else {}))
            for n in range(20)
        ]
        status = [receipt.outcomes(timeout_s=20)[0].status for receipt in receipts]
        assert [at for at, one in enumerate(status) if one != "ok"] == [5]
        with pytest.raises(OptionError, match="table"):
            app.publish("t", {"n": 1}, table="elsewhere")
    assert sorted(n for (n,) in base.rows("select n from {}")) == list(range(0, 20, 2))
    found = base.db.execute(f"select n from {other}").data
    assert sorted(row["n"] for row in found) == [n for n in range(1, 20, 2) if n != 5]


@pytest.mark.parametrize("options", [{}, {"table": "orders"}], ids=str)
def test_a_channel_of_one_table(options: dict[str, Any]):
    """No message may name another table."""
    conf = {
        "sql": {
            "connections": {"m": {"url": "sqlite://"}},
            "channels": {"orders": {"options": {**options, "create_table": True}}},
        }
    }
    with rambla.Rambla(conf) as app:
        with pytest.raises(OptionError, match="tables"):
            app.publish("orders", {"n": 1}, table="users")
        app.publish("orders", {"n": 1}).result(timeout_s=10)


def test_each_table_is_checked(base: Base):
    """A table or a column that is missing in any of them takes the channel down."""
    base.make("id varchar(40) primary key, n integer")
    base.db.execute(f"create table {base.table}_b (id varchar(40), m integer)")
    options = {"tables": [base.table, f"{base.table}_b"]}
    assert type(base.refusal(columns=["n"], **options)) is SqlAccessError
    assert "no unique key" in str(base.refusal(upsert=True, **options))
    missing = base.refusal(tables=[base.table, "nowhere"])
    assert "no table 'nowhere'" in str(missing)
