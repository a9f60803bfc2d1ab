"""Tests of tables with options of their own, and of what the sql handler creates."""

from __future__ import annotations

import datetime
import decimal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy
from sql_worker import Base, Worker

import rambla_py as rambla
from rambla_py.errors import ConfigError, OptionError
from rambla_py.handler import Secret
from rambla_py.handlers._tables.options import TableOptions
from rambla_py.handlers.sql import SqlHandler
from rambla_py.handlers.sql.settings import table_plans
from rambla_py.sql import (
    SqlAccessError,
    SqlBackend,
    SqlDataError,
    SqlIntegrityError,
    SqlUnavailableError,
)
from rambla_py.sql.database import Database

TABLES = {"calls": {"columns": {"ms": "payload.ms::integer"}}, "payments": TableOptions(columns=["amount"])}
NO_TABLES = {"calls": {"colums": ["ms"]}}


def of_two(base: Base) -> dict[str, Any]:
    """Return the options of a channel with a table of calls and one of payments."""
    return {
        "create_table": True,
        "upsert": True,
        "json_column": "properties",
        "table": f"{base.table}_calls",
        "tables": {
            f"{base.table}_calls": {
                "columns": {"at": "payload.at::timestamptz", "ms": "payload.ms::integer"},
                "indexes": ["at", ["ms", "at"]],
            },
            f"{base.table}_payments": {
                "columns": {"amount": "payload.amount::numeric(38, 9)", "note": "payload.note"},
                "indexes": ["note"],
                "id_column": "number",
            },
        },
    }


def app_of(base: Base, options: dict[str, Any]) -> rambla.Rambla:
    return rambla.Rambla(
        {
            "sql": {
                "connections": {"main": {"url": base.url}},
                "channels": {"events": {"batch_size": 500, "options": {"retries": 0, **options}}},
            }
        }
    )


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("upsert", [True, False])
def test_tables_with_columns_of_their_own(copy: bool, upsert: bool, base: Base):
    """A batch over both is a transaction on one connection; of its rows only the refused ones fail."""
    options = {**of_two(base), "copy": copy, "upsert": upsert}
    at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    with app_of(base, options) as app:
        events = [
            app.publish("events", {"at": at, "ms": n if n != 7 else "x" * 30, "more": n}, id=f"c{n}")
            if n % 2
            else app.publish(
                "events",
                {"amount": decimal.Decimal(n), "note": "é"},
                id=f"p{n}",
                table=f"{base.table}_payments",
            )
            for n in range(40)
        ]
        status = [event.outcomes(timeout_s=20)[0].status for event in events]
    wrong = [] if base.kind == "sqlite" else [7]
    assert [at for at, one in enumerate(status) if one != "ok"] == wrong
    calls = base.db.execute(f"select id, ms, properties from {base.table}_calls").data
    assert len(calls) == 20 - len(wrong)
    assert {row["id"]: row["ms"] for row in calls}["c9"] == 9
    (more,) = (row["properties"] for row in calls if row["id"] == "c9")
    assert (msgspec.json.decode(more) if isinstance(more, str) else more) == {"more": 9}
    paid = base.db.execute(f"select number, amount, note from {base.table}_payments").data
    assert sorted(decimal.Decimal(row["amount"]) for row in paid) == list(range(0, 40, 2))
    assert {row["note"] for row in paid} == {"é"}


def test_a_refused_row_among_tables(base: Base):
    """A constraint of one table undoes none of the rows of the other."""
    with base.worker(**of_two(base)) as w:
        base.db.execute(f"create unique index only_{base.table} on {base.table}_calls (ms)")
        messages = [w.message({"ms": 10 if n == 12 else n}, f"m{n}") for n in range(30)]
        for message in messages[1::2]:
            message.options = msgspec.structs.replace(message.options, table=f"{base.table}_payments")
        answers = w.deliver(messages)
        calls = base.db.execute(f"select ms from {base.table}_calls").data
        paid = base.db.execute(f"select number from {base.table}_payments").data
    if base.kind == "mariadb":
        # Its upsert replaces by any unique key.
        assert (answers, len(calls), len(paid)) == ([None] * 30, 14, 15)
        return
    assert [at for at, one in enumerate(answers) if one is not None] == [12]
    assert type(answers[12]) is SqlIntegrityError
    assert (len(calls), len(paid)) == (14, 15)


def test_one_table_that_replaces_rows(base: Base):
    """Its rows keep their order, also those with other keys; the rows of the other table are added."""
    other = f"{base.table}_b"
    base.make("id varchar(40) primary key, a integer, b integer")
    base.db.execute(f"create table {other} (id varchar(40), a integer)")
    with base.worker(tables={base.table: {"upsert": True}, other: {}}) as w:
        messages = [
            w.message(payload, "x") for payload in ({"a": 1}, {"b": 1}, {"a": 2}, {"b": 2, "a": 3}, {"a": 4})
        ]
        more = [w.message({"a": n}, "x") for n in range(3)]
        for message in more:
            message.options = msgspec.structs.replace(message.options, table=other)
        assert w.deliver([*messages[:2], *more, *messages[2:]]) == [None] * 8
    assert base.rows("select id, a, b from {}") == [("x", 4, 2)]
    assert [row["a"] for row in base.db.execute(f"select a from {other} order by a").data] == [0, 1, 2]


def test_a_table_of_a_message_is_one_of_the_channel(base: Base):
    """What a payload or a caller names is no table unless the channel lists it."""
    with app_of(base, of_two(base)) as app:
        for name in ("elsewhere", "sqlite_master", f"{base.table}_calls; drop table x", ""):
            with pytest.raises(OptionError, match="table"):
                app.publish("events", {"ms": 1}, table=name)
        app.publish("events", {"ms": 1, "table": "elsewhere", "drop": {"x": 1}}).result(timeout_s=10)


# -- indexes ---------------------------------------------------------------------------------------


def indexes(base: Base, table: str) -> set[tuple[Any, ...]]:
    engine = Database(base.url).engine(Database(base.url).connect, poolclass=sqlalchemy.NullPool)
    return {tuple(one["column_names"]) for one in sqlalchemy.inspect(engine).get_indexes(table)}


def test_indexes_are_created_once(base: Base):
    """With the table, or when they are missing; a column of long text is indexed too."""
    options, calls = of_two(base), f"{base.table}_calls"
    for _ in range(2):
        with base.worker(**options) as w:
            w.publish([{"ms": 1}])
        assert indexes(base, calls) == {("at",), ("ms", "at")}
        assert indexes(base, f"{base.table}_payments") == {("note",)}
    options["tables"][calls]["indexes"].append("ms")
    with base.worker(**{**options, "create_table": False}):
        assert indexes(base, calls) == {("at",), ("ms", "at")}
    with base.worker(**options):
        assert indexes(base, calls) == {("at",), ("ms", "at"), ("ms",)}


def test_an_index_of_long_text(mariadb: Base):
    """It holds the first characters, which MySQL needs to be given; that of a short string holds all."""
    columns = {"note": "payload.note", "city": "payload.city::varchar(40)"}
    with mariadb.worker(columns=columns, create_table=True, indexes=["note", "city"]) as w:
        assert w.publish([{"note": "n" * 5_000, "city": "Oslo"}]) == [None]
    sql = f"select column_name, sub_part from information_schema.statistics where table_name = '{mariadb.table}'"
    assert {tuple(row.values()) for row in mariadb.db.execute(sql).data} == {("note", 191), ("city", None)}


def test_an_index_that_is_there_under_another_name(base: Base):
    """It is not created twice, the primary key neither."""
    base.make("id varchar(40) primary key, n integer, m integer")
    base.db.execute(f"create index mine_{base.table} on {base.table} (n, m)")
    with base.worker(columns=["n", "m"], create_table=True, indexes=[["n", "m"], "id"]) as w:
        assert w.publish([{"n": 1}]) == [None]
    assert indexes(base, base.table) == {("n", "m")}


def test_the_name_of_an_index_of_long_names(base: Base):
    """Names are cut by databases at some 60 bytes, and two that begin alike are two."""
    long = ["n" * 40 + end for end in "ab"]
    with base.worker(columns=dict.fromkeys(long, "payload::integer"), create_table=True, indexes=long):
        pass
    assert indexes(base, base.table) == {(name,) for name in long}


def test_workers_that_create_at_once(base: Base):
    """All of them connect, and what they create is there once."""
    base.make("id varchar(40) primary key")
    failed: list[Exception] = []

    def connect() -> None:
        try:
            with base.worker(**{**of_two(base), "add_columns": True}):
                pass
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=connect) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert indexes(base, f"{base.table}_calls") == {("at",), ("ms", "at")}


# -- columns ---------------------------------------------------------------------------------------


def test_missing_columns_are_added(base: Base):
    """With their types; a name that is no identifier stays in the JSON column."""
    base.make("id varchar(40) primary key, rest varchar(400)")
    columns = {
        "n": "payload.n::integer",
        "total": "payload.total::numeric(10, 2)",
        "a b": "payload.a b",
        'x"; drop table y; --': "payload.c",
    }
    given = {"columns": columns, "json_column": "rest"}
    assert type(base.refusal(**given)) is SqlAccessError
    payload = {"n": 1, "total": "2.50", "a b": 3, "c": 4, "d": 5}
    with base.worker(**given, add_columns=True) as w:
        assert w.publish([payload]) == [None]
    with base.worker(**given, add_columns=True) as w:
        assert w.publish([payload]) == [None]
        names = w.connection.rows.names
    assert set(names) == {"id", "n", "total", "rest"}
    (row, _) = base.db.execute(f"select * from {base.table}").data
    assert (row["n"], decimal.Decimal(row["total"])) == (1, decimal.Decimal("2.5"))
    assert msgspec.json.decode(row["rest"]) == {"a b": 3, "c": 4, "d": 5}


def test_keys_of_a_payload_add_no_columns(base: Base):
    """Only what the channel lists is added: a payload that names columns names those that are there."""
    base.make("id varchar(40) primary key, n integer")
    with base.worker(add_columns=True) as w:
        known, unknown = w.publish([{"n": 1}, {"n": 1, "evil": 2}])
    assert (known, type(unknown)) == (None, SqlDataError)
    assert set(base.db.execute(f"select * from {base.table}").data[0]) == {"id", "n"}


def test_more_columns_than_are_added(base: Base):
    """A hundred at a time: with more the channel is down, and the table is as it was."""
    base.make("id varchar(40) primary key")
    columns = {f"c{n}": f"payload.c{n}::integer" for n in range(101)}
    error = base.refusal(columns=columns, add_columns=True)
    assert type(error) is SqlAccessError
    assert "lacks 101 columns" in str(error)
    columns.popitem()
    with base.worker(columns=columns, add_columns=True) as w:
        assert len(w.connection.rows.names) == 101


def test_a_column_without_a_place_in_json(base: Base):
    """It is an error as without ``add_columns``: its value would be lost."""
    base.make("id varchar(40) primary key")
    assert "has no column 'a-b'" in str(base.refusal(columns={"a-b": "headers.x"}, json_column=""))
    with base.worker(columns={"a-b": "headers.x"}, add_columns=True) as w:
        assert w.deliver([w.message({}, "m", x="1")]) == [None]
    assert [row["a-b"] for row in base.db.execute(f"select * from {base.table}").data] == ["1"]


def test_a_check_creates_nothing(base: Base):
    """It reports what would be created."""
    base.make("id varchar(40) primary key")
    url = base.url

    def missing(**options: Any) -> str | None:
        handler = SqlHandler(
            SqlHandler.Connection(url=Secret(url)),
            channel="orders",
            service="sql",
            options=SqlHandler.Options(table=base.table, columns=["n"], **options),
        )
        handler.dry_run = True
        connection = handler.connect()
        handler.close(connection)
        return connection.missing

    assert missing(add_columns=True, wal=True) == f"column 'n' of table {base.table!r}"
    with pytest.raises(SqlAccessError, match="no column 'n'"):
        missing(create_table=True)
    base.db.execute(f"drop table {base.table}")
    assert missing(create_table=True) == f"table {base.table!r}"
    with pytest.raises(SqlAccessError, match="no table"):
        missing(add_columns=True)


# -- the configuration -------------------------------------------------------------------------------


def test_tables_of_a_module():
    """A mapping, of tables or of ``TableOptions``, by its path."""
    options = {"tables": f"{__name__}:TABLES", "create_table": True, "upsert": True, "id_column": "key"}
    with closing(Worker("sqlite://", {}, options)) as w:
        assert w.publish([{"ms": 1}]) == [None]
        plans = {plan.name: plan for plan in table_plans(w.handler.options, "orders")}
    assert list(plans) == ["calls", "payments"]
    assert [column.name for column in plans["payments"].columns] == ["key", "amount"]
    assert plans["calls"].unique == "key"


WRONG: list[tuple[Any, str]] = [
    ("tables", "module:NAME"),
    (f"{__name__}:TABLE", "did you mean 'TABLES'"),
    ("no_such_module:TABLES", "cannot import"),
    (f"{__name__}:NO_TABLES", "colums"),
    ({"a": {"colums": ["n"]}}, "colums"),
    ({"a": {"columns": ["n"], "indexes": ["m"]}}, "'m', which is not one of the columns.*table 'a'"),
    ({"a": {"columns": ["n"], "indexes": [["n", "n"]]}}, "each of its columns once"),
    ({"a": {"columns": ["n"], "indexes": [[]]}}, "index of"),
    ({"a": {"upsert": True, "id_column": ""}}, "upsert without an id_column.*table 'a'"),
    ({"a": {"columns": {"n": "payed.n"}}}, "known are id, key"),
    ({"": {}}, "empty name"),
]


@pytest.mark.parametrize(("tables", "reason"), WRONG, ids=str)
def test_tables_that_are_wrong(tables: Any, reason: str):
    """The configuration is refused, and says what is wrong."""
    conf = {
        "sql": {
            "connections": {"m": {"url": "sqlite://"}},
            "channels": {"t": {"options": {"tables": tables}}},
        }
    }
    with pytest.raises(ConfigError, match=reason):
        rambla.Rambla(conf)


def test_tables_in_toml(tmp_path: Path):
    """Each table is a table; those in the environment are JSON."""
    file = tmp_path / "rambla.toml"
    file.write_text(
        f"""
        [sql.connections.local]
        url = "sqlite:///{tmp_path}/shop.db"
        [sql.channels.events]
        options.create_table = true
        options.wal = true
        [sql.channels.events.options.tables.calls]
        columns = {{ ms = "payload.ms::integer" }}
        indexes = ["ms"]
        [sql.channels.events.options.tables."mails"]
        columns = ["to"]
        """
    )
    with rambla.Rambla.from_toml(file) as app:
        app.publish("events", {"ms": 3}).result(timeout_s=10)
        app.publish("events", {"to": "a"}, table="mails").result(timeout_s=10)
    (found,) = SqlBackend(f"sqlite:///{tmp_path}/shop.db").execute('select ms, "to" from calls, mails').data
    assert found == {"ms": 3, "to": "a"}
    assert list(SqlHandler.Options(tables='["a", "b"]').tables or ()) == ["a", "b"]


# -- SQLite ------------------------------------------------------------------------------------------


def mode(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("pragma journal_mode").fetchone()[0])


def test_wal(tmp_path: Path):
    """The file is put into WAL mode, after waiting for another writer; off, it is left as it is."""
    url, path = f"sqlite:///{tmp_path}/shop.db", tmp_path / "shop.db"
    with closing(Worker(url, {}, {"create_table": True})):
        assert mode(path) == "delete"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("begin immediate")
    other.execute("insert into orders values ('x', '{}')")
    with pytest.raises(SqlUnavailableError):
        Worker(url, {"read_timeout_s": 0.05}, {"wal": True})
    timer = threading.Timer(0.2, lambda: other.execute("commit"))
    timer.start()
    with closing(Worker(url, {}, {"wal": True})) as w:
        assert w.publish([{"n": 1}]) == [None]
    timer.join()
    other.close()
    assert mode(path) == "wal"
    with closing(Worker(url, {}, {})) as w:
        assert w.publish([{"n": 1}]) == [None]
    assert mode(path) == "wal"


def test_wal_elsewhere(base: Base):
    """A database in memory and a server have no such mode: the option does nothing."""
    with base.worker(wal=True, create_table=True) as w:
        assert w.publish([{"n": 1}]) == [None]
    with closing(Worker("sqlite://", {}, {"wal": True, "create_table": True})) as w:
        assert w.publish([{"n": 1}]) == [None]
