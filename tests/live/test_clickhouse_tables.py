"""Tests of tables and columns that a clickhouse channel lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from http_app import channel
from web_server import Reply, WebServer

import rambla_py as rambla
from rambla_py.errors import AccessError, ConfigError, OptionError
from rambla_py.handlers.clickhouse import ClickHouseHandler
from rambla_py.handlers.sql import TableOptions
from rambla_py.testing.clickhouse_server import ClickHouseServer

AT = "2024-01-15T10:30:00.123Z"
TABLES = {"calls": TableOptions(columns={"ms": "payload.ms::integer"}, upsert=True, indexes=["ms"])}
TIMES = {
    "timestamp": "payload.timestamp::timestamptz",
    "amount": "payload.amount::numeric(38, 9)",
    "ok": "payload.ok::boolean",
    "city": "payload.address.city",
    "more": "payload.more::text",
    "trace": "headers.trace",
}


@pytest.fixture
def names(clickhouse: ClickHouseServer, unique_name: str) -> Iterator[list[str]]:
    """Names of two tables that do not exist."""
    made = [f"{unique_name}_calls", f"{unique_name}_payments"]
    yield made
    for name in made:
        clickhouse.query(f"DROP TABLE IF EXISTS `{name}`")


def to(server: Any, settings: dict[str, Any] | None = None, **options: Any) -> Any:
    return channel("clickhouse", {"host": server.host, "port": server.port}, settings, **options)


def rows(clickhouse: ClickHouseServer, table: str, order: str = "id") -> list[dict[str, Any]]:
    text = clickhouse.query(f"SELECT * FROM `{table}` ORDER BY {order} FORMAT JSONEachRow")
    return [json.loads(line) for line in text.splitlines()]


def test_a_table_is_created_with_its_columns(clickhouse: ClickHouseServer, names: list[str]):
    """Times have milliseconds beside them on an old server; keys without a column go into the JSON column."""
    options = {
        "table": names[0],
        "create_table": True,
        "columns": TIMES,
        "id_column": "id",
        "json_column": "rest",
    }
    payload = {
        "timestamp": AT,
        "amount": Decimal("99.990000001"),
        "ok": True,
        "address": {"city": "Oslo", "zip": 1},
        "more": {"a": [1]},
        "user": "u-1",
    }
    with to(clickhouse, **options) as c:
        assert c.send(payload, id="a", headers={"trace": "t"}).result == 1
        assert (
            c.send([{"timestamp": datetime(2024, 1, 15, tzinfo=UTC), "amount": "1.5"}, {}], id="b").result
            == 2
        )
    with to(clickhouse, **options) as c:
        assert c.send({"timestamp": "2024-01-15T12:30:00+02:00"}, id="c").result == 1
    first, *others, last = rows(clickhouse, names[0], "id, timestamp_ms")
    assert json.loads(first.pop("rest")) == {"address": {"city": "Oslo", "zip": 1}, "user": "u-1"}
    assert first == {
        "id": "a",
        "timestamp": "2024-01-15 10:30:00",
        "timestamp_ms": 123,
        "amount": 99.990000001,
        "ok": 1,
        "city": "Oslo",
        "more": '{"a":[1]}',
        "trace": "t",
    }
    assert (last["id"], last["timestamp"], last["timestamp_ms"]) == ("c", "2024-01-15 10:30:00", 0)
    assert {(one["timestamp"], one["amount"], one["rest"]) for one in others} == {
        ("2024-01-15 00:00:00", 1.5, "{}"),
        ("0000-00-00 00:00:00", None, "{}"),
    }
    made = clickhouse.query(f"SHOW CREATE TABLE `{names[0]}`")
    assert "ENGINE = MergeTree" in made
    assert "ORDER BY timestamp" in made


def test_tables_with_columns_of_their_own(clickhouse: ClickHouseServer, names: list[str]):
    """A bad row fails alone in its table; a message may name no other table."""
    calls, payments = names
    tables = {
        calls: {"columns": {"ms": "payload.ms::UInt32"}},
        payments: {"columns": {"amount": "payload.amount::numeric(10, 2)"}, "id_column": "number"},
    }
    options = {"tables": tables, "create_table": True, "id_column": "id"}
    with to(clickhouse, {"batch_size": 100}, **options) as c:
        receipts = [
            c.app.publish("to", {"amount": n}, id=f"p{n}", table=payments)
            if n % 2
            else c.app.publish("to", {"ms": n if n != 4 else "four"}, id=f"c{n}")
            for n in range(10)
        ]
        status = [receipt.outcomes(timeout_s=20)[0].status for receipt in receipts]
        for name in ("system.users", "elsewhere", f"{calls}`"):
            with pytest.raises(OptionError, match="one of the channel's"):
                c.app.publish("to", {"ms": 1}, table=name)
    assert [at for at, one in enumerate(status) if one != "ok"] == [4]
    assert rows(clickhouse, calls) == [{"id": f"c{n}", "ms": n} for n in (0, 2, 6, 8)]
    assert rows(clickhouse, payments, "number")[0] == {"number": "p1", "amount": 1}


def test_a_list_of_tables_takes_keys_by_name(clickhouse: ClickHouseServer, names: list[str]):
    """Without columns rows are as the payloads are; without tables any table may be named."""
    for name in names:
        clickhouse.query(f"CREATE TABLE `{name}` (id String, n Int32) ENGINE = MergeTree ORDER BY n")
    with to(clickhouse, tables=names, id_column="id") as c:
        assert c.send({"n": 1}, id="a").status == "ok"
        assert c.send({"n": 2}, id="b", table=names[1]).status == "ok"
        with pytest.raises(OptionError, match="one of the channel's"):
            c.send({"n": 1}, table="elsewhere")
    with to(clickhouse, id_column="id") as c:
        assert c.send({"n": 3}, id="c", table=names[1]).status == "ok"
    assert [rows(clickhouse, name, "n") for name in names] == [
        [{"id": "a", "n": 1}],
        [{"id": "b", "n": 2}, {"id": "c", "n": 3}],
    ]


def test_a_table_that_cannot_be_created(clickhouse: ClickHouseServer):
    """The channel is down: a missing database is an operator's matter."""
    handler = ClickHouseHandler(
        ClickHouseHandler.Connection(host=clickhouse.host, port=clickhouse.port),
        channel="to",
        service="service",
        options=ClickHouseHandler.Options(table="nowhere.t", columns={"n": "payload.n"}, create_table=True),
    )
    with pytest.raises(AccessError, match="Code: 81"):
        handler.connect()


def test_a_table_that_is_created_later(clickhouse: ClickHouseServer, names: list[str]):
    """Rows are made for the columns that it then has."""
    with to(clickhouse, table=names[0], columns=["id", "at", "note"]) as c:
        assert c.send({"id": "a", "at": AT, "note": {"a": 1}}).status == "fatal"
        columns = "id String, at DateTime('UTC'), at_ms UInt16, note String"
        clickhouse.query(f"CREATE TABLE `{names[0]}` ({columns}) ENGINE = MergeTree ORDER BY at")
        assert c.send({"id": "a", "at": AT, "note": {"a": 1}}).status == "ok"
    (row,) = rows(clickhouse, names[0])
    assert (row["at_ms"], row["note"]) == (123, '{"a":1}')


def test_a_newer_server_has_times_with_milliseconds():
    """It is asked which types it has, and which the table has: times are then sent as they are."""
    kinds = [("id", "String"), ("at", "DateTime64(3, 'UTC')"), ("d", "Decimal(38, 9)")]

    def answer(seen: Any) -> Reply:
        if b"data_type_families" in seen.body:
            return Reply(200, b"DateTime64\nDecimal\n")
        if b"system.columns" in seen.body and b"LIKE" not in seen.body:
            return Reply(
                200, b"".join(b'{"name":"%s","type":"%s"}\n' % (n.encode(), t.encode()) for n, t in kinds)
            )
        return Reply(200, b"")

    with WebServer() as server:
        server.answer = answer
        columns = {"at": "payload.at::timestamptz", "d": "payload.d::decimal"}
        with to(server, table="t", columns=columns, id_column="id", create_table=True) as c:
            assert c.send({"at": AT, "d": "1.50"}, id="x").status == "ok"
        (created,) = [seen.body.decode() for seen in server.seen if seen.body.startswith(b"CREATE")]
        (sent,) = [seen.body for seen in server.seen if "INSERT" in seen.query.get("query", [""])[0]]
    assert created == (
        "CREATE TABLE IF NOT EXISTS `t` (`id` String, `at` DateTime64(3, 'UTC'), `d` Nullable(Decimal(38, 9))) "
        "ENGINE = MergeTree ORDER BY (`at`)"
    )
    assert json.loads(sent, parse_float=str) == {"id": "x", "at": AT, "d": "1.50"}


def test_tables_of_a_module():
    """The mapping is that of the sql handler; what ClickHouse has not, upsert and indexes, is not used."""
    options = ClickHouseHandler.Options(tables=f"{__name__}:TABLES", id_column="id", create_table=True)
    plan = options.plans("to")["calls"]
    assert plan is not None
    assert [column.name for column in plan.columns] == ["id", "ms"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"create_table": True}, "create_table without columns"),
    ({"create_table": True, "tables": ["a"]}, "create_table without columns.*'a'"),
    ({"tables": {"a": {"columns": {"n": "payload.n::intger"}}}}, "'intger', which is not known"),
    ({"tables": {"a.b.c": {}}}, "DATABASE.TABLE"),
    ({"tables": ["a"], "table": "b"}, "one of the channel's"),
    ({"tables": "nowhere"}, "module:NAME"),
    ({"columns": {"n": "body.n"}}, "known are id, key"),
]


@pytest.mark.parametrize(("options", "reason"), WRONG, ids=str)
def test_tables_that_are_wrong(options: dict[str, Any], reason: str):
    """The configuration is refused, and says what is wrong."""
    conf = {
        "clickhouse": {
            "connections": {"m": {"host": "localhost"}},
            "channels": {"to": {"options": options}},
        }
    }
    with pytest.raises(ConfigError, match=reason):
        rambla.Rambla(conf)
