"""Types and values; columns and rows of the sql handler."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import mysql, postgresql, sqlite

from rambla_py.errors import SerializationError
from rambla_py.handlers._tables.columns import read_columns
from rambla_py.handlers.sql.batch import write_batch
from rambla_py.handlers.sql.encode import RowMaker
from rambla_py.handlers.sql.settings import SqlOptions
from rambla_py.sql.database import Database
from rambla_py.sql.dialects.postgresql_writer import insert_arrays
from rambla_py.sql.errors import SqlConflictError, SqlError, SqlIntegrityError, UnsupportedTypeError
from rambla_py.sql.insert import insert_statements
from rambla_py.sql.types import Converter, TypeMap

# -- types ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ("varchar(20)", ("VARCHAR(20)", "VARCHAR(20)", "VARCHAR(20)")),
        ("Numeric(10, 2)", ("VARCHAR", "NUMERIC(10, 2)", "NUMERIC(10, 2)")),
        ("timestamptz", ("DATETIME", "TIMESTAMP WITH TIME ZONE", "DATETIME(6)")),
        ("double precision", ("DOUBLE", "DOUBLE PRECISION", "DOUBLE")),
        ("jsonb", ("JSON", "JSONB", "JSON")),
        (int, ("BIGINT", "BIGINT", "BIGINT")),
        (dict, ("JSON", "JSON", "JSON")),
        (bytes, ("BLOB", "BYTEA", "BLOB")),
        (datetime.timedelta, ("BIGINT", "INTERVAL", "BIGINT")),
        (enum.Enum("Color", ["RED"]), ("VARCHAR(3)", "color", "ENUM('RED')")),
    ],
)
def test_names_of_types(wanted: Any, names: tuple[str, ...]):
    """A type has its name in each database."""
    for dialect, name in zip((sqlite, postgresql, mysql), names, strict=True):
        types = TypeMap(dialect.dialect())
        found = types.name_of(types.resolve(wanted))
        assert found == name or (name, found) == ("VARCHAR", "TEXT")


@pytest.mark.parametrize(
    ("dialect", "wanted", "reason"),
    [
        (mysql, "text[]", "mysql has no type for ARRAY"),
        (mysql, "varchar", "mysql has no type for String"),
        (sqlite, "integer[]", "sqlite has no type for ARRAY"),
        (postgresql, "varchar(x)", "has wrong parameters"),
        (postgresql, "date(3)", "has wrong parameters"),
        (postgresql, "'; drop", "unknown type"),
        (postgresql, "txt", "did you mean 'text'?"),
        (postgresql, complex, "no type for values of complex; pass a Converter"),
    ],
)
def test_types_that_there_are_not(dialect: Any, wanted: Any, reason: str):
    """What a database has no type for is refused, with what is wrong."""
    with pytest.raises(UnsupportedTypeError) as caught:
        TypeMap(dialect.dialect()).resolve(wanted)
    assert reason in str(caught.value)
    assert not caught.value.retryable


_VALUES = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.booleans(),
    st.text(),
    st.binary(),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.datetimes(timezones=st.just(datetime.UTC)),
    st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999)),
    st.uuids(),
    st.decimals(allow_nan=False, allow_infinity=False, places=4),
    st.dictionaries(st.text(), st.integers() | st.none() | st.lists(st.booleans())),
)


@given(value=_VALUES)
def test_values_go_there_and_back(value: Any):
    """Where a database has no such type, what is kept in its place gives the same value again."""
    types = TypeMap(sqlite.dialect())
    kind = types.type_of(value)
    kept = types.to_database(value)
    assert kept is None or isinstance(kept, int | float | str | bytes | memoryview)
    assert types.from_database(kept, kind) == value


def test_a_converter_goes_before_the_built_in_types():
    """A subclass of what is known is kept as its own converter says."""

    class Cents(int):
        pass

    cents = Converter(
        "cents", Cents, "numeric(10, 2)", lambda c: decimal.Decimal(c) / 100, lambda d: Cents(d * 100)
    )
    types = TypeMap(sqlite.dialect(), [cents])
    assert types.to_database(Cents(1250)) == "12.5"
    assert types.from_database("12.5", "cents") == Cents(1250)
    assert types.name_of(types.resolve("cents")) == types.name_of(types.resolve("numeric(10, 2)"))


def test_a_value_that_a_type_does_not_take():
    """A conversion that fails names the value's class and the type."""
    types = TypeMap(sqlite.dialect())
    with pytest.raises(UnsupportedTypeError, match="a str cannot be converted for DATE"):
        types.to_database("tomorrow", "date")
    with pytest.raises(UnsupportedTypeError, match="has no zone"):
        types.to_database(datetime.datetime(2026, 1, 1), "timestamptz")


# -- rows -----------------------------------------------------------------------------------------


class Message:
    id, key, headers = "m-1", "k", {"trace": "t"}

    def __init__(self, payload: Any, format: str = "none") -> None:  # noqa: A002
        self.payload = payload
        self.policy = type("Policy", (), {"format": format, "serializer": "json"})

    def body(self) -> bytes:
        return b"the body"


def row(payload: Any, kind: str = "postgresql", **options: Any) -> dict[str, Any]:
    made = RowMaker(read_columns(SqlOptions(**options)), Database(f"{kind}://").dialect)
    return dict(zip(made.names, made.make(Message(payload)), strict=True))  # type: ignore[arg-type]  # like one


def test_a_row_without_columns():
    """The whole payload is one value, encoded once for all attempts."""
    assert row({"a": 1}) == {"id": "m-1", "payload": "the body"}
    assert row([1]) == {"id": "m-1", "payload": "[1]"}


def test_a_row_of_columns():
    """Each column has its source, and the rest has what is left."""
    columns = {"a": "payload.a", "b": "payload.b.c", "k": "key", "t": "headers.trace", "h": "headers"}
    assert row({"a": 1, "b": {"c": 2}, "d": 3}, columns=columns, json_column="rest") == {
        "id": "m-1",
        "a": 1,
        "b": 2,
        "k": "k",
        "t": "t",
        "h": '{"trace":"t"}',
        "rest": '{"b":{"c":2},"d":3}',
    }


def test_a_path_that_leads_nowhere():
    """What is not there is NULL."""
    columns = {"a": "payload.a.b.c", "b": "payload.l.7", "c": "payload.l.x"}
    assert row({"a": 1, "l": [1]}, columns=columns) == {"id": "m-1", "a": None, "b": None, "c": None}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("sqlite", ["2026-01-02 03:04:05+02:00", "2026-01-02", "1.50", str(uuid.UUID(int=1))]),
        ("mysql", ["2026-01-02 01:04:05", "2026-01-02", "1.50", str(uuid.UUID(int=1))]),
    ],
)
def test_values_that_a_driver_does_not_know(kind: str, expected: list[str]):
    """They become what the database reads; a moment with a zone never loses it silently."""
    zone = datetime.timezone(datetime.timedelta(hours=2))
    payload = {
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=zone),
        "day": datetime.date(2026, 1, 2),
        "price": decimal.Decimal("1.50"),
        "u": uuid.UUID(int=1),
    }
    found = row(payload, kind, columns=list(payload), id_column="")
    assert [str(value) for value in found.values()] == expected


def test_a_value_that_cannot_be_written_tells_its_path():
    """The path begins at the payload."""
    with pytest.raises(SerializationError) as caught:
        row({"a": {"b": [1, object()]}}, columns={"x": "payload.a"})
    assert caught.value.path == "$.a.b[1]"


def test_statements_of_postgresql():
    """COPY for rows, and arrays where they replace; a percent sign is doubled where a driver formats."""
    made = insert_statements(Database("postgresql://").dialect, "shop.orders", ["id", "a%"], upsert="id")
    assert made.copy == 'COPY "shop"."orders" ("id", "a%") FROM STDIN'
    assert made.insert == (
        'INSERT INTO "shop"."orders" ("id", "a%%") VALUES (%s, %s) '
        'ON CONFLICT ("id") DO UPDATE SET "a%%" = excluded."a%%"'
    )
    assert insert_arrays(made, ["text", '"100%"']) == (
        'INSERT INTO "shop"."orders" ("id", "a%%") SELECT CAST(c0 AS text), CAST(c1 AS "100%%") '
        'FROM unnest(%s, %s) AS given(c0, c1) ON CONFLICT ("id") DO UPDATE SET "a%%" = excluded."a%%"'
    )


# -- batches --------------------------------------------------------------------------------------


class Table:
    """A table that refuses rows; ``late`` ones only at the commit."""

    def __init__(self, refused: set[int], late: set[int]) -> None:
        self.refused, self.late = refused, late
        self.committed: list[int] = []
        self.written: list[int] = []
        self.marks: list[int] = []
        self.open = False
        self.calls = 0

    def write_all(self, rows: list[int]) -> None:
        self.begin()
        try:
            self.write(rows)
        except SqlError:
            self.rollback()
            raise
        self.commit()

    def begin(self) -> None:
        assert not self.open
        self.open, self.written = True, []

    def write(self, rows: list[int]) -> None:
        assert self.open
        self.calls += 1
        for at in rows:
            if at in self.refused:
                raise SqlIntegrityError(str(at))
            self.written.append(at)

    def commit(self) -> None:
        self.open = False
        for at in self.written:
            if at in self.late:
                raise SqlIntegrityError("late")
        self.committed += self.written

    def rollback(self) -> None:
        self.open = False

    def savepoint(self) -> None:
        self.marks.append(len(self.written))

    def release(self) -> None:
        self.marks.pop()

    def rollback_to(self) -> None:
        del self.written[self.marks[-1] :]


_ROWS = st.integers(0, 40).flatmap(
    lambda size: st.tuples(
        st.just(size), st.sets(st.integers(0, max(0, size - 1))), st.sets(st.integers(0, max(0, size - 1)))
    )
)


@given(case=_ROWS)
def test_exactly_the_refused_rows_fail(case: tuple[int, set[int], set[int]]):
    """Whatever rows are refused, and whenever: they have the errors, and all others are committed, in order."""
    size, refused, late = case
    bad = {at for at in refused | late if at < size}
    table = Table(refused, late)
    errors = write_batch(table, list(range(size)))  # type: ignore[arg-type]  # a row may be anything here
    assert set(errors) == bad
    assert table.committed == [at for at in range(size) if at not in bad]
    assert not table.open


def test_one_refused_row_costs_few_calls():
    """Of five hundred rows one is found in about twice the logarithm."""
    table = Table({333}, set())
    assert set(write_batch(table, list(range(500)))) == {333}  # type: ignore[arg-type]  # as above
    assert table.calls <= 1 + 2 * 9


def test_what_concerns_all_is_raised():
    """A conflict is no row's fault: nothing is written, and nothing is halved."""

    class Locked(Table):
        def write(self, rows: list[int]) -> None:
            self.calls += 1
            raise SqlConflictError("locked")

    table = Locked(set(), set())
    with pytest.raises(SqlConflictError):
        write_batch(table, list(range(8)))  # type: ignore[arg-type]  # as above
    assert (table.calls, table.committed, table.open) == (1, [], False)
