"""This module maps types both ways: names and Python's types to those of a database, values to and fro."""

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
from rambla_py.sql.errors import UnsupportedTypeError

__all__ = ["Converter", "TypeMap"]

_T = TypeVar("_T")
_SqlType = types.TypeEngine[Any]
_CALL = re.compile(r"\s*(?P<name>[A-Za-z][\w ]*?)\s*(?:\((?P<given>[^()]*)\))?\s*(?P<array>\[\])?\s*")


class _ExactNumeric(types.TypeDecorator[decimal.Decimal]):
    """A ``Decimal`` that stays exact: SQLite has no such type, so it is text there."""

    impl = types.Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        return dialect.type_descriptor(types.Text() if dialect.name == "sqlite" else self.impl_instance)

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        return str(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value if value is None or isinstance(value, decimal.Decimal) else decimal.Decimal(str(value))


class _Moment(types.TypeDecorator[datetime.datetime]):
    """A ``datetime`` with its zone: where the database knows none it is kept, and comes back, in UTC."""

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
            raise ValueError(f"{value} has no zone, and the column keeps moments; use the type timestamp")
        if dialect.name == "postgresql":
            return value
        return value.astimezone(datetime.UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        return value if value is None or value.tzinfo else value.replace(tzinfo=datetime.UTC)


class _Span(types.TypeDecorator[datetime.timedelta]):
    """A ``timedelta``, exact: where the database has no interval it is a number of microseconds."""

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
    """How values of a type of yours are kept: in which type of the database, and how to get there and back.

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
    """The type of SQLAlchemy that a ``Converter`` makes."""

    impl = types.NullType
    cache_ok = False  # two converters may differ in nothing that could be compared

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


def _datetime() -> _SqlType:
    return types.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def _time() -> _SqlType:
    return types.Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb")


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
    "datetime": _datetime,
    "decimal": _ExactNumeric,
    "double": types.Double,
    "double precision": types.Double,
    "float": types.Double,
    "int": types.Integer,
    "integer": types.Integer,
    "interval": _Span,
    "json": lambda: types.JSON(none_as_null=True),
    "jsonb": _jsonb,
    "numeric": _ExactNumeric,
    "real": types.REAL,
    "smallint": types.SmallInteger,
    "string": types.String,
    "text": types.Text,
    "time": _time,
    "timestamp": _datetime,
    "timestamptz": _Moment,
    "uuid": types.Uuid,
    "varchar": types.String,
}

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
    """Types for one kind of database; custom converters go before the built-in types.

    >>> from sqlalchemy.dialects import postgresql
    >>> types = TypeMap(postgresql.dialect())
    >>> types.name_of(types.resolve("numeric(10, 2)")), types.name_of(types.resolve(bytes))
    ('NUMERIC(10, 2)', 'BYTEA')
    """

    def __init__(self, dialect: Any, converters: Iterable[Converter[Any]] = ()) -> None:
        self._dialect = dialect
        self._by_name: dict[str, _SqlType] = {}
        self._by_class: dict[type, _SqlType] = {}
        for converter in converters:
            made = _Converted(converter, self.resolve(converter.database))
            self._by_name[converter.name.lower()] = self._by_class[converter.python] = made

    def resolve(self, wanted: str | type | _SqlType) -> _SqlType:
        """Return the type of SQLAlchemy for a name with its parameters, a Python type, or one of its own.

        Names are those of SQL (``varchar(20)``, ``numeric(10, 2)``, ``timestamptz``, ``json``, ``text[]``)
        and those of converters. Raises ``UnsupportedTypeError`` where there is no such type, in general or in
        this database.
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
        """Return a type as this database writes it: ``VARCHAR(20)``."""
        try:
            return str(kind.compile(self._dialect))
        except (UnsupportedCompilationError, CompileError) as error:
            name = type(kind).__name__
            raise UnsupportedTypeError(f"{self._dialect.name} has no type for {name}: {error}") from error

    def type_of(self, value: Any) -> _SqlType:
        """Return the type for a value; raises ``UnsupportedTypeError`` for a value of a class without one."""
        if value is None:
            return types.NullType()
        if isinstance(value, datetime.datetime) and value.tzinfo is None:
            return self._named("timestamp")
        return self._of_class(type(value))

    def to_database(self, value: Any, wanted: str | type | _SqlType | None = None) -> Any:
        """Return what the driver is given for a value; raises ``UnsupportedTypeError``.

        >>> from sqlalchemy.dialects import sqlite
        >>> TypeMap(sqlite.dialect()).to_database({"a": 1})
        '{"a": 1}'
        """
        kind = self.type_of(value) if wanted is None else self.resolve(wanted)
        process = kind.dialect_impl(self._dialect).bind_processor(self._dialect)
        return self._applied(process, value, kind)

    def from_database(self, value: Any, wanted: str | type | _SqlType) -> Any:
        """Return the Python value of what the driver gave for a column of this type."""
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
                f"a value of type {type(value).__name__} does not go with {self.name_of(kind)}: {error}"
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
            f"{self._dialect.name} has no type for values of {wanted.__qualname__}; give a Converter for it"
        )

    def _named(self, text: str) -> _SqlType:
        parts = _CALL.fullmatch(text)
        name = parts["name"].lower() if parts else ""
        if parts is not None and name in self._by_name and not parts["given"]:
            return self._by_name[name]
        if parts is None or name not in _NAMES:
            close = nearest(name or text, [*_NAMES, *self._by_name])
            hint = f"; did you mean {close!r}?" if close else f"; known are {', '.join(sorted(_NAMES))}"
            raise UnsupportedTypeError(f"no type is called {text!r}{hint}")
        try:
            given = [int(one) for one in (parts["given"] or "").split(",") if one.strip()]
            made = _NAMES[name](*given)
        except (TypeError, ValueError) as error:
            raise UnsupportedTypeError(f"the type {text!r} has parameters that it does not take") from error
        return types.ARRAY(made) if parts["array"] else made
