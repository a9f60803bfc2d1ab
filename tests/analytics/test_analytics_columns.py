"""Tests of the conversion of values to the types of columns."""

from __future__ import annotations

import datetime
import enum
import http
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.analytics.columns import converter
from rambla_py.analytics.event_time import EventClock, time_text


class Colour(enum.StrEnum):
    RED = "red"


GOOD: list[tuple[str, Any, Any]] = [
    ("text", "a", "a"),
    ("text", Colour.RED, "red"),
    ("varchar(3)", "abc", "abc"),
    ("bigint", 2**63 - 1, 2**63 - 1),
    ("integer", http.HTTPStatus.OK, 200),
    ("double", 1, 1.0),
    ("double", Decimal("1.5"), 1.5),
    ("boolean", False, False),
    ("numeric(38, 9)", 0.1 + 0.2, Decimal("0.3")),
    ("numeric(38, 9)", 99.99, Decimal("99.99")),
    ("numeric(38, 9)", Decimal("1E+2"), Decimal(100)),
    (
        "numeric(38, 9)",
        "12345678901234567890123456789.123456789",
        Decimal("12345678901234567890123456789.123456789"),
    ),
    ("numeric(38, 9)", 10**28, Decimal(10**28)),
    ("date", datetime.date(2024, 1, 15), "2024-01-15"),
    ("timestamptz", datetime.datetime(2024, 1, 15, tzinfo=datetime.UTC), "2024-01-15T00:00:00+00:00"),
    ("uuid", "00000000000000000000000000000001", "00000000-0000-0000-0000-000000000001"),
    ("json", {"a": [1]}, {"a": [1]}),
]
BAD: list[tuple[str, Any]] = [
    ("text", 5),
    ("text", b"a"),
    ("varchar(3)", "abcd"),
    ("bigint", 2**63),
    ("bigint", 1.0),
    ("smallint", True),
    ("integer", "5"),
    ("double", float("nan")),
    ("double", float("inf")),
    ("double", True),
    ("double", 10**400),
    ("boolean", 1),
    ("numeric(38, 9)", Decimal("NaN")),
    ("numeric(38, 9)", Decimal("sNaN")),
    ("numeric(38, 9)", float("inf")),
    ("numeric(38, 9)", Decimal("1E-10")),
    ("numeric(38, 9)", 10**29),
    ("numeric(38, 9)", Decimal("1E+1000000")),
    ("numeric(38, 9)", "a lot"),
    ("numeric(38, 9)", True),
    ("numeric(5)", Decimal("1.5")),
    ("date", "yesterday"),
    ("timestamp", "x"),
    ("uuid", "x"),
]


@pytest.mark.parametrize(("sql", "value", "expected"), GOOD, ids=str)
def test_a_value_that_fits(sql: str, value: Any, expected: Any) -> None:
    found = converter(sql)(value)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(("sql", "value"), BAD, ids=str)
def test_a_value_that_does_not_fit(sql: str, value: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        converter(sql)(value)


def test_a_least_value() -> None:
    assert converter("double", 0)(0) == 0.0
    with pytest.raises(ValueError, match="a finite number >= 0"):
        converter("double", 0)(-0.5)


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e28, max_value=1e28))
def test_a_float_is_an_amount_by_its_shortest_text(value: float) -> None:
    """What is rounded away is less than the last of the nine places."""
    assert abs(converter("numeric(38, 9)")(value) - Decimal(repr(value))) <= Decimal("5E-10")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**28), max_value=10**28))
def test_an_exact_amount_stays_exact(value: Decimal) -> None:
    found = converter("numeric(38, 9)")(value)
    assert found == value
    assert "E+" not in str(found)


def test_the_clock_writes_milliseconds() -> None:
    """Two calls in one second share its text."""
    times = iter([1705314600.0, 1705314600.999, 1705314601.5])
    clock = EventClock(lambda: next(times))
    assert [clock.now() for _ in range(3)] == [
        "2024-01-15T10:30:00.000Z",
        "2024-01-15T10:30:00.999Z",
        "2024-01-15T10:30:01.500Z",
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-15T10:30:00Z", "2024-01-15T10:30:00.000Z"),
        ("2024-01-15T11:30:00.1234+01:00", "2024-01-15T10:30:00.123Z"),
        (datetime.datetime(2024, 1, 15, 10, 30), "2024-01-15T10:30:00.000Z"),
        ("0001-01-01T00:00:00+23:00", None),
        ("today", None),
        (1705314600, None),
    ],
)
def test_a_time_that_is_given(value: Any, expected: str | None) -> None:
    assert time_text(value) == expected
