"""Values, types, and errors about them."""

from __future__ import annotations

import datetime
import decimal
import ipaddress
import uuid
from typing import Any

import pytest

from rambla_py.sql import (
    Converter,
    SqlDataError,
    SqlIntegrityError,
    SqlStatementError,
    UnsupportedTypeError,
)
from rambla_py.testing.contract_case import CANARY
from rambla_py.testing.flags import only_if
from rambla_py.testing.sql_contract_tests.case import SqlCase

_BERLIN = datetime.timezone(datetime.timedelta(hours=2))


__all__ = ["ValueTests"]


_VALUES: dict[str, tuple[str, Any]] = {
    "integer": ("integer", -5),
    "bigint": ("bigint", 1 << 40),
    "boolean": ("boolean", True),
    "double": ("double", 0.1),
    "numeric": ("numeric(30, 10)", decimal.Decimal("12345678901234567890.0123456789")),
    "varchar": ("varchar(40)", "Grüße, 世界, \U0001f600; 'quoted' \\ %s :name ?"),
    "text": ("text", "x" * 10_000),
    "blob": ("blob", bytes(range(256))),
    "date": ("date", datetime.date(2026, 2, 28)),
    "time": ("time", datetime.time(23, 59, 59, 123_456)),
    "timestamp": ("timestamp", datetime.datetime(2026, 2, 28, 12, 30, 0, 123_456)),
    "timestamptz": ("timestamptz", datetime.datetime(2026, 2, 28, 12, 30, tzinfo=_BERLIN)),
    "interval": ("interval", datetime.timedelta(days=40, microseconds=1)),
    "uuid": ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
    "json": ("json", {"a": [1, 2.5, None, True, "x:y"]}),
    "null": ("json", None),
}


class ValueTests(SqlCase):
    """Values arrive as they were given, or are refused."""

    @pytest.mark.parametrize("kind", _VALUES)
    def test_a_value_comes_back_as_it_went(self, kind: str) -> None:
        """A value goes into a column of its type, and comes back equal."""
        name, value = _VALUES[kind]
        with self.backend() as db:
            column = db.types.name_of(db.types.resolve(name))
        with self.opened(f"id integer primary key, v {column}") as db:
            types = {"v": name}
            db.execute(f"insert into {self.t} values (1, :v)", {"v": value}, column_types=types)
            found = db.execute(f"select v from {self.t}", column_types=types).data
            assert found == [{"v": value}]
            assert type(found[0]["v"]) is type(value)

    def test_a_value_goes_by_its_class(self) -> None:
        """Without ``column_types`` a dict goes as JSON, and a UUID as a UUID."""
        with self.backend() as db:
            kinds = [db.types.name_of(db.types.resolve(name)) for name in ("json", "uuid")]
        with self.opened(f"id integer primary key, j {kinds[0]}, u {kinds[1]}") as db:
            given = {"j": {"a": 1}, "u": uuid.UUID(int=7)}
            db.execute(f"insert into {self.t} values (1, :j, :u)", given)
            found = db.execute(f"select j, u from {self.t}", column_types={"j": "json", "u": "uuid"}).first
            assert found == given

    def test_a_converter_of_ones_own(self) -> None:
        """A class with a converter goes in by itself, and comes out where its name is given."""
        address = ipaddress.IPv4Address("10.1.2.3")
        known = Converter("address", ipaddress.IPv4Address, "varchar(15)", str, ipaddress.IPv4Address)
        with self.opened("id integer primary key, a varchar(15)", converters=[known]) as db:
            db.execute(f"insert into {self.t} values (1, :a)", {"a": address})
            assert db.execute(f"select a from {self.t}").data == [{"a": "10.1.2.3"}]
            found = db.execute(f"select a from {self.t}", column_types={"a": "address"})
            assert found.data == [{"a": address}]

    def test_a_value_without_a_type(self) -> None:
        """A value of a class that no type is known for is refused by its name, before anything is sent."""
        with self.opened() as db, pytest.raises(UnsupportedTypeError, match="IPv4Address"):
            db.execute("select :a", {"a": ipaddress.IPv4Address("10.1.2.3")})

    def test_a_type_that_there_is_not(self) -> None:
        """An unknown name of a type is refused, with the nearest one."""
        with self.opened() as db, pytest.raises(UnsupportedTypeError, match="did you mean 'varchar'"):
            db.execute("select 1 as a", column_types={"a": "varchr(3)"})

    def test_a_conversion_that_fails(self) -> None:
        """An error of a converter is a ``SqlDataError`` that does not quote the value, in both directions."""

        def refuse(value: Any) -> Any:
            raise ValueError(str(value))

        address = ipaddress.IPv4Address
        known = [Converter("address", address, "varchar(30)", refuse, refuse)]
        with self.opened("id integer primary key, a varchar(30)", converters=known) as db:
            with pytest.raises(SqlDataError):
                db.execute(f"insert into {self.t} values (1, :a)", {"a": address("10.1.2.3")})
            db.execute(f"insert into {self.t} values (1, :a)", {"a": CANARY})
            with pytest.raises(SqlDataError) as caught:
                db.execute(f"select a from {self.t}", column_types={"a": "address"})
            assert CANARY not in str(caught.value)
            with pytest.raises(SqlDataError), db.transaction():
                db.execute(f"select a from {self.t}", column_types={"a": "address"})

    def test_rows_of_different_types(self) -> None:
        """Values of one placeholder that need different types are refused, unless one type is given."""
        with self.opened("id integer primary key, v varchar(50)") as db:
            rows = [{"id": 1, "v": {"a": 1}}, {"id": 2, "v": datetime.date(2026, 2, 28)}]
            with pytest.raises(SqlDataError, match="different types"):
                db.execute(f"insert into {self.t} values (:id, :v)", rows)
            assert self.count(db) == 0

    def test_a_time_does_not_lose_its_zone(self) -> None:
        """A time with a zone is refused for a type without one, and one without for a type with one."""
        with self.opened("id integer primary key, v varchar(50)") as db:
            wrong = [
                ("timestamp", datetime.datetime.now(datetime.UTC)),
                ("timestamptz", datetime.datetime.now()),
            ]
            for name, value in wrong:
                with pytest.raises(SqlDataError, match="zone"):
                    db.execute(f"insert into {self.t} values (1, :v)", {"v": value}, column_types={"v": name})
            assert self.count(db) == 0

    def test_a_constraint_refuses_a_row(self) -> None:
        """A duplicate key, a duplicate name and a NULL are integrity errors, which are not retried."""
        with self.opened() as db:
            self.add(db, 1, "Ada")
            for number, name in ((1, "Grace"), (2, "Ada"), (3, None)):
                with pytest.raises(SqlIntegrityError) as caught:
                    self.add(db, number, name)
                assert not caught.value.retryable
                assert caught.value.code
            assert self.count(db) == 1

    @pytest.mark.parametrize("sql", ["selec 1", "select * from no_such_table", "select nothing_here"])
    def test_a_wrong_statement(self, sql: str) -> None:
        """Wrong syntax, an unknown table and an unknown column are errors of the statement."""
        with self.opened() as db, pytest.raises(SqlStatementError) as caught:
            db.execute(sql)
        assert not caught.value.retryable

    @only_if("checks_types")
    def test_a_value_that_does_not_fit(self) -> None:
        """A malformed number, and a string that is too long, are errors of the data."""
        with self.opened() as db:
            for number, name in (("many", "a"), (1, "x" * 51)):
                with pytest.raises(SqlDataError):
                    db.execute(f"insert into {self.t} (n, id, name) values (?, 1, ?)", [number, name])

    def test_values_do_not_show_in_errors(self) -> None:
        """An error, its cause and its context contain no value of the statement."""
        with self.opened() as db, pytest.raises(SqlStatementError) as caught:
            db.execute("select * from no_such_table where secret = :secret", {"secret": CANARY})
        said = f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
        assert CANARY not in said
