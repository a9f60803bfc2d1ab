"""Type mapping between Python and a database, with conversion of values."""

from __future__ import annotations

import datetime
import decimal
import enum
import inspect
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from sqlalchemy import types
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import CompileError, SQLAlchemyError, UnsupportedCompilationError

from rambla_py.errors import nearest
from rambla_py.sql.errors import SqlDataError, UnsupportedTypeError

__all__ = ["Converter", "TypeMap", "ZoneError"]

_T = TypeVar("_T")
_SqlType = types.TypeEngine[Any]
_CALL = re.compile(r"\s*(?P<name>[A-Za-z][\w ]*?)\s*(?:\((?P<given>[^()]*)\))?\s*(?P<array>\[\])?\s*")


class ZoneError(ValueError):
    """A time with a zone for a column without one, or the reverse; the text does not quote the time."""


class _ExactNumeric(types.TypeDecorator[decimal.Decimal]):
    """An exact ``Decimal``; SQLite has no such type and stores text."""

    impl = types.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(types.Text() if dialect.name == "sqlite" else self.impl_instance)

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return str(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value if value is None or isinstance(value, decimal.Decimal) else decimal.Decimal(str(value))


class _Timestamp(types.TypeDecorator[datetime.datetime]):
    """A ``datetime`` without a zone; one that has a zone is refused, because drivers would drop it."""

    impl = types.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(types.DateTime())

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        if getattr(value, "tzinfo", None) is not None:
            raise ZoneError("the time has a zone, which the column does not keep; use the type timestamptz")
        return value


class _Time(types.TypeDecorator[datetime.time]):
    """A ``time`` without a zone."""

    impl = types.Time
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.TIME(fsp=6))
        return dialect.type_descriptor(types.Time())

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        if getattr(value, "tzinfo", None) is not None:
            raise ZoneError("the time has a zone, which the column does not keep")
        return value


class _TimestampTz(types.TypeDecorator[datetime.datetime]):
    """A ``datetime`` with its zone; a database without such a type stores UTC, and UTC comes back."""

    impl = types.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(types.DateTime(timezone=True))

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ZoneError("the time has no zone, which the column needs; use the type timestamp")
        if dialect.name == "postgresql":
            return value
        return value.astimezone(datetime.UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        # MariaDB answers with text where no column gives the type: SELECT :at.
        time = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
        return time if time is None or time.tzinfo else time.replace(tzinfo=datetime.UTC)


class _Interval(types.TypeDecorator[datetime.timedelta]):
    """An exact ``timedelta``; a database without intervals stores a number of microseconds."""

    impl = types.BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        kind = types.Interval(native=True) if dialect.name == "postgresql" else types.BigInteger()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        if value is None or dialect.name == "postgresql":
            return value
        return value // datetime.timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return datetime.timedelta(microseconds=value) if isinstance(value, int) else value


class Converter(Generic[_T]):
    """A Python type of your own: the database's type for its values, and functions to convert both ways.

    >>> import ipaddress
    >>> address = Converter("address", ipaddress.IPv4Address, "varchar(15)", str, ipaddress.IPv4Address)
    >>> address.name
    'address'
    """

    def __init__(
        self,
        name: str,
        python: type[_T],
        database: str | type | _SqlType,
        to_database: Callable[[_T], Any],
        from_database: Callable[[Any], _T],
    ) -> None:
        self.name, self.python, self.database = name, python, database
        self.to_database, self.from_database = to_database, from_database


class _Converted(types.TypeDecorator[Any]):
    """SQLAlchemy's type for a ``Converter``."""

    impl = types.NullType
    cache_ok = False  # functions cannot be compared

    def __init__(self, converter: Converter[Any], inner: _SqlType) -> None:
        super().__init__()
        self._converter, self.impl_instance = converter, inner
        self.impl = inner  # type: ignore[assignment]  # of an instance: each converter has its own

    def copy(self, **kwargs: Any) -> Any:
        return _Converted(self._converter, self.impl_instance)

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return None if value is None else self._converter.to_database(value)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return None if value is None else self._converter.from_database(value)


def _jsonb() -> _SqlType:
    return types.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


_NAMES: dict[str, Callable[..., _SqlType]] = {
    "bigint": types.BigInteger,
    "binary": types.LargeBinary,
    "blob": types.LargeBinary,
    "bool": types.Boolean,
    "boolean": types.Boolean,
    "bytea": types.LargeBinary,
    "bytes": types.LargeBinary,
    "char": types.CHAR,
    "date": types.Date,
    "datetime": _Timestamp,
    "decimal": _ExactNumeric,
    "double": types.Double,
    "double precision": types.Double,
    "float": types.Double,
    "int": types.Integer,
    "integer": types.Integer,
    "interval": _Interval,
    "json": lambda: types.JSON(none_as_null=True),
    "jsonb": _jsonb,
    "numeric": _ExactNumeric,
    "real": types.REAL,
    "smallint": types.SmallInteger,
    "string": types.String,
    "text": types.Text,
    "time": _Time,
    "timestamp": _Timestamp,
    "timestamptz": _TimestampTz,
    "uuid": types.Uuid,
    "varchar": types.String,
}

# Drivers take them unchanged, and PostgreSQL converts a string for a date column as it does in SQL.
_NATIVE: frozenset[type] = frozenset({str, int, float, bool, type(None)})
_NUMBERS = (types.Integer, types.Numeric, types.Float, _ExactNumeric)

_PYTHON: dict[type, str] = {
    bool: "boolean",
    int: "bigint",
    float: "double",
    str: "text",
    bytes: "bytes",
    bytearray: "bytes",
    memoryview: "bytes",
    decimal.Decimal: "numeric",
    datetime.datetime: "timestamptz",
    datetime.date: "date",
    datetime.time: "time",
    datetime.timedelta: "interval",
    uuid.UUID: "uuid",
    dict: "json",
    list: "json",
    tuple: "json",
}


class TypeMap:
    """Types of one database; custom converters take precedence over the built-in types.

    >>> from sqlalchemy.dialects import postgresql
    >>> types = TypeMap(postgresql.dialect())
    >>> types.name_of(types.resolve("numeric(10, 2)")), types.name_of(types.resolve(bytes))
    ('NUMERIC(10, 2)', 'BYTEA')
    """

    def __init__(
        self,
        dialect: Any,
        converters: Iterable[Converter[Any]] = (),
        *,
        names: Mapping[str, Callable[..., _SqlType]] | None = None,
    ) -> None:
        self._dialect = dialect
        self._names = {**_NAMES, **(names or {})}
        self._by_name: dict[str, _SqlType] = {}
        self._by_class: dict[type, _SqlType] = {}
        for converter in converters:
            made = _Converted(converter, self.resolve(converter.database))
            self._by_name[converter.name.lower()] = self._by_class[converter.python] = made

    def resolve(self, wanted: str | type | _SqlType) -> _SqlType:
        """Return the type of SQLAlchemy for a name with its parameters, a Python type, or one of its own.

        Names are those of SQL (``varchar(20)``, ``numeric(10, 2)``, ``timestamptz``, ``json``, ``text[]``)
        and those of converters. Raises ``UnsupportedTypeError`` for an unknown type, or one that this
        database does not have.
        """
        if isinstance(wanted, str):
            found = self._named(wanted)
        elif isinstance(wanted, type) and not issubclass(wanted, types.TypeEngine):
            found = self._of_class(wanted)
        else:
            found = types.to_instance(wanted)
        self.name_of(found)
        return found

    def name_of(self, kind: _SqlType) -> str:
        """Return the name of a type in this database, such as ``VARCHAR(20)``."""
        try:
            return str(kind.compile(self._dialect))
        except (UnsupportedCompilationError, CompileError) as error:
            name = type(kind).__name__
            raise UnsupportedTypeError(f"{self._dialect.name} has no type for {name}: {error}") from error

    def type_of(self, value: Any) -> _SqlType:
        """Return the type for a value; raises ``UnsupportedTypeError`` if there is none for its class."""
        if value is None:
            return types.NullType()
        if isinstance(value, datetime.datetime) and value.tzinfo is None:
            return self._named("timestamp")
        return self._of_class(type(value))

    def common_type(self, values: Iterable[Any]) -> _SqlType | None:
        """Return the one type for all values, or None if no value needs a type.

        Raises ``SqlDataError`` if the values need different types.
        """
        samples = {(type(value), getattr(value, "tzinfo", None) is None): value for value in values}
        if _NATIVE.issuperset(kind for kind, _ in samples):
            return None
        found = [self.type_of(value) for value in samples.values() if value is not None]
        kinds = {self.name_of(kind): kind for kind in found}
        if len(kinds) == 1:
            return found[0]
        if all(isinstance(kind, _NUMBERS) for kind in found):
            return self._named("numeric")
        raise SqlDataError(
            f"the values have different types ({', '.join(sorted(kinds))}); give one type in column_types"
        )

    def to_database(self, value: Any, wanted: str | type | _SqlType | None = None) -> Any:
        """Return the value that the driver gets; raises ``UnsupportedTypeError``.

        >>> from sqlalchemy.dialects import sqlite
        >>> TypeMap(sqlite.dialect()).to_database({"a": 1})
        '{"a": 1}'
        """
        kind = self.type_of(value) if wanted is None else self.resolve(wanted)
        process = kind.dialect_impl(self._dialect).bind_processor(self._dialect)
        return self._applied(process, value, kind)

    def from_database(self, value: Any, wanted: str | type | _SqlType) -> Any:
        """Return the Python value for a driver's value of a column of this type."""
        kind = self.resolve(wanted)
        process = kind.dialect_impl(self._dialect).result_processor(self._dialect, None)
        return self._applied(process, value, kind)

    def _applied(self, process: Callable[[Any], Any] | None, value: Any, kind: _SqlType) -> Any:
        try:
            return value if process is None else process(value)
        except (
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            SQLAlchemyError,
        ) as error:
            raise UnsupportedTypeError(
                f"a {type(value).__name__} cannot be converted for {self.name_of(kind)}: {error}"
            ) from error

    def _of_class(self, wanted: type) -> _SqlType:
        for base in inspect.getmro(wanted):
            if base in self._by_class:
                return self._by_class[base]
            if issubclass(wanted, enum.Enum):
                return types.Enum(wanted)
            if base in _PYTHON:
                return self._named(_PYTHON[base])
        if issubclass(wanted, Mapping):
            return self._named("json")
        raise UnsupportedTypeError(
            f"{self._dialect.name} has no type for values of {wanted.__qualname__}; pass a Converter for it"
        )

    def _named(self, text: str) -> _SqlType:
        parts = _CALL.fullmatch(text)
        name = parts["name"].lower() if parts else ""
        if parts is not None and name in self._by_name and not parts["given"]:
            return self._by_name[name]
        if parts is None or name not in self._names:
            close = nearest(name or text, [*self._names, *self._by_name])
            hint = f"; did you mean {close!r}?" if close else f"; known are {', '.join(sorted(self._names))}"
            raise UnsupportedTypeError(f"unknown type {text!r}{hint}")
        try:
            given = [int(one) for one in (parts["given"] or "").split(",") if one.strip()]
            made = self._names[name](*given)
        except (TypeError, ValueError) as error:
            raise UnsupportedTypeError(f"the type {text!r} has wrong parameters") from error
        return types.ARRAY(made) if parts["array"] else made
