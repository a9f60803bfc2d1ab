"""Values that the clickhouse handler stores as they are, or refuses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from http_app import channel

from rambla_py.testing.clickhouse_server import ClickHouseServer

COLUMNS = (
    "k UInt32, v Float64, o Nullable(Float64), d Decimal(38, 20), u UInt8, i Int64, l UInt64, a Array(Int8), "
    "at DateTime"
)


@pytest.fixture
def table(clickhouse: ClickHouseServer, unique_name: str) -> Iterator[str]:
    """A table of numbers."""
    clickhouse.query(f"CREATE TABLE `{unique_name}` ({COLUMNS}) ENGINE = MergeTree ORDER BY k")
    yield unique_name
    clickhouse.query(f"DROP TABLE IF EXISTS `{unique_name}`")


def to(server: ClickHouseServer, table: str, **options: Any) -> Any:
    return channel("clickhouse", {"host": server.host, "port": server.port}, table=table, **options)


def column(clickhouse: ClickHouseServer, table: str, name: str) -> list[str]:
    return clickhouse.query(f"SELECT {name} FROM `{table}` ORDER BY k").split("\n")[:-1]


@pytest.mark.parametrize("number", [float, Decimal], ids=["float", "decimal"])
def test_infinities_are_stored_as_they_are(clickhouse: ClickHouseServer, table: str, number: type):
    """Also in a nullable column, beside a null."""
    values = [*map(number, ("inf", "-inf", "nan", "1.5")), None]
    with to(clickhouse, table) as c:
        outcomes = c.send_many([{"k": k, "v": v or 0, "o": v} for k, v in enumerate(values)])
    assert [outcome.status for outcome in outcomes] == ["ok"] * 5
    assert column(clickhouse, table, "v") == ["inf", "-inf", "nan", "1.5", "0"]
    assert column(clickhouse, table, "o") == ["inf", "-inf", "nan", "1.5", "\\N"]


def test_infinities_may_be_null(clickhouse: ClickHouseServer, table: str):
    """The option ``nan`` is obeyed here, too."""
    with to(clickhouse, table, nan="null") as c:
        assert c.send({"k": 1, "o": math.inf}).status == "ok"
    assert column(clickhouse, table, "o") == ["\\N"]


@pytest.mark.parametrize(
    ("payload", "form"),
    [
        ({"d": Decimal("0.10000000000000000001")}, "none"),
        ('{"d": 0.10000000000000000001}', "none"),
        ('{"d": 0.10000000000000000001}', "object"),
        (b'[{"d": 0.10000000000000000001}]', "none"),
    ],
)
def test_a_decimal_keeps_its_digits(clickhouse: ClickHouseServer, table: str, payload: Any, form: str):
    """It is a number in JSON: this server refuses a string."""
    with to(clickhouse, table, format=form) as c:
        outcome = c.send(payload)
    assert (outcome.status, outcome.error) == ("ok", None)
    assert column(clickhouse, table, "d") == ["0.10000000000000000001"]


@pytest.mark.parametrize(
    "value",
    [
        {"u": 256},
        {"u": "256"},
        {"i": 2**63},
        {"i": -(2**63) - 1},
        {"l": 2**64},
        {"a": [1, 128]},
        {"at": 2**32},
    ],
    ids=str,
)
def test_an_integer_that_does_not_fit_is_refused_alone(
    clickhouse: ClickHouseServer, table: str, value: dict[str, Any]
):
    """The others of its batch are written; nothing wraps round."""
    with to(clickhouse, table) as c:
        outcomes = c.send_many(
            [{"k": 1, "u": 255}, {"k": 2, **value}, [{"k": 3}, {"k": 4, **value}], {"k": 5}]
        )
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "fatal", "ok"]
    (name,) = value
    assert f"row 1: column {name!r}" in str(outcomes[1].error)
    assert f"row 2: column {name!r}" in str(outcomes[2].error)
    assert outcomes[1].attempts == 1
    assert column(clickhouse, table, "k, u") == ["1\t255", "5\t0"]


def test_the_bounds_themselves_fit(clickhouse: ClickHouseServer, table: str):
    """The least and the greatest of each type arrive."""
    row = {"u": 255, "i": -(2**63), "l": 2**64 - 1, "a": [-128, 127], "at": 2**32 - 1}
    with to(clickhouse, table) as c:
        assert c.send(row).status == "ok"
    (stored,) = column(clickhouse, table, "u, i, l, a, toUInt32(at)")
    assert stored == f"255\t{-(2**63)}\t{2**64 - 1}\t[-128,127]\t{2**32 - 1}"


def test_a_column_that_has_become_wider(clickhouse: ClickHouseServer, table: str):
    """It is not refused by what the table was."""
    with to(clickhouse, table) as c:
        assert c.send({"k": 1, "u": 300}).status == "fatal"
        clickhouse.query(f"ALTER TABLE `{table}` MODIFY COLUMN u UInt16")
        assert c.send({"k": 2, "u": 300}).status == "ok"
    assert column(clickhouse, table, "u") == ["300"]
