"""Integers that ClickHouse would wrap round, found before they are sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.errors import UnavailableError
from rambla_py.handlers.clickhouse.columns import Bounds, Columns, IntegerCheck, bounds_of

KINDS = [f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64, 128, 256)]
kinds = st.sampled_from(KINDS)
wrappers = st.sampled_from(
    ["{}", "Nullable({})", "LowCardinality(Nullable({}))", "SimpleAggregateFunction(sum, {})"]
)


def check(kind: str, value: str) -> bool:
    """Return whether a column of a type takes a value, written as JSON."""
    bounds = bounds_of(kind)
    assert bounds is not None
    found = IntegerCheck({"n": bounds})([b'{"other": [1], "n": ' + value.encode() + b"}"])
    return found is None


@given(kinds, wrappers, st.data(), st.sampled_from(["{}", '"{}"', '"00{}"']))
def test_an_integer_is_refused_if_and_only_if_it_does_not_fit(
    kind: str, wrapper: str, data: st.DataObject, form: str
) -> None:
    """Around the bounds and anywhere, as a number or a string."""
    bounds = bounds_of(kind)
    assert bounds is not None
    edges = st.sampled_from([bounds.least, bounds.most]).flatmap(lambda edge: st.integers(edge - 2, edge + 2))
    value = data.draw(edges | st.integers(-(2**300), 2**300))
    written = form.format(value) if value >= 0 else form.replace("00", "").format(value)
    assert check(wrapper.format(kind), written) == (bounds.least <= value <= bounds.most)


@given(kinds, st.lists(st.integers(-(2**70), 2**70)))
def test_an_array_is_refused_for_any_of_its_integers(kind: str, values: list[int]) -> None:
    """Also one in a further array."""
    bounds = bounds_of(kind)
    assert bounds is not None
    fits = all(bounds.least <= value <= bounds.most for value in values)
    assert check(f"Array({kind})", json.dumps(values)) == fits
    assert check(f"Array(Array({kind}))", json.dumps([[], values])) == fits


@pytest.mark.parametrize(
    "value", ["null", "true", "1.5", "1e400", '""', '"x"', '"1.5"', "[1000]", '{"a": 1000}', '"\\u0031"']
)
def test_what_is_no_integer_is_left_to_the_server(value: str) -> None:
    """It refuses what it does not understand, or has rules of its own."""
    assert check("UInt8", value) == (value != "[1000]")


@pytest.mark.parametrize("value", ["9" * 5_000, '"' + "9" * 5_000 + '"'])
def test_more_digits_than_python_reads(value: str) -> None:
    """They fit no column."""
    assert not check("UInt64", value)


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [
        ("String", None),
        ("Enum8('Int8' = 1)", None),
        ("Decimal(38, 20)", None),
        ("FixedString(8)", None),
        ("Float64", None),
        ("DateTime", Bounds("DateTime", 0, 2**32 - 1, text=False)),
        ("DateTime('Europe/Berlin')", Bounds("DateTime", 0, 2**32 - 1, text=False)),
        ("DateTime64(3)", None),
        ("Array(Nullable(Int8))", Bounds("Int8", -128, 127, 1)),
    ],
)
def test_types(kind: str, bounds: Bounds | None) -> None:
    """Integers are found inside what wraps them; a time in seconds is one."""
    assert bounds_of(kind) == bounds


def test_a_date_in_a_string_is_no_integer() -> None:
    """Only a number of seconds can wrap."""
    assert check("DateTime", '"2026-01-02 03:04:05"')
    assert check("DateTime", "1767322800")
    assert not check("DateTime", str(2**32))


def test_the_error_names_row_and_column_but_no_data() -> None:
    """The number itself does not show."""
    bounds = bounds_of("UInt8")
    assert bounds is not None
    error = IntegerCheck({"a": bounds, "b": bounds})([b'{"a": 1}', b'{"a": 1, "b": 4711}'])
    assert str(error) == (
        "row 2: column 'b' is UInt8, an integer from 0 to 255, and the value is beyond that; ClickHouse would "
        "store another number"
    )


class Server:
    """Answers the query for columns."""

    def __init__(self, kind: str) -> None:
        self.kind, self.asked, self.away = kind, 0, False

    def __call__(self, table: str, offset: int) -> str:
        self.asked += 1
        if self.away:
            raise UnavailableError("away")
        return json.dumps({"name": "n", "type": self.kind}) + "\n"


ROW: list[Any] = [b'{"n": 300}']
LATER, EARLIER = float("inf"), float("-inf")


def test_a_table_is_asked_once() -> None:
    """The answer is kept, by table."""
    server = Server("UInt16")
    columns = Columns(server)
    assert [columns.check_for(table, since=EARLIER)(ROW) for table in ("a", "a", "b")] == [None] * 3
    assert server.asked == 2


def test_an_altered_table_is_asked_again_before_anything_is_refused() -> None:
    """A column that has become wider takes what it did not."""
    server = Server("UInt8")
    columns = Columns(server)
    assert columns.check_for("a", since=EARLIER)(ROW) is not None
    server.kind = "UInt16"
    assert columns.check_for("a", since=EARLIER)(ROW) is not None
    assert columns.check_for("a", since=LATER)(ROW) is None


def test_without_an_answer_nothing_is_refused() -> None:
    """The insert itself meets what is wrong; the next batch asks again."""
    server = Server("UInt8")
    server.away = True
    columns = Columns(server)
    assert columns.check_for("a", since=EARLIER)(ROW) is None
    server.away = False
    assert columns.check_for("a", since=EARLIER)(ROW) is not None
