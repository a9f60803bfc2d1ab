"""This module looks at the table that a channel writes to, and makes it where that is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from rambla_py.errors import nearest
from rambla_py.handlers.sql.sources import Column
from rambla_py.sql.database import Database
from rambla_py.sql.errors import SqlStatementError
from rambla_py.sql.mapping import sql_error
from rambla_py.sql.types import TypeMap

__all__ = ["Table", "look_at"]


class Table(NamedTuple):
    """What of a table a row has to know: the columns of bytes, of JSON, and of times without a zone.

    ``kinds`` has all columns with their types, to tell whether it is still the same.
    """

    binary: frozenset[str]
    json: frozenset[str]
    naive: frozenset[str]
    kinds: frozenset[tuple[str, str]]


def look_at(
    database: Database,
    connection: Any,
    name: str,
    columns: Sequence[Column],
    *,
    create: bool,
    unique: str | None,
) -> Table:
    """Return the table over a live connection of the driver's; with ``create``, make it when it is missing.

    Raises ``SqlStatementError`` when the table, or one of the columns, is not there: as an error of
    connecting it lets messages wait until somebody has made it.
    """
    engine = database.engine(lambda: connection, poolclass=sqlalchemy.StaticPool)
    schema, _, bare = name.rpartition(".")
    try:
        return _table(engine, bare, schema or None, columns, create=create, unique=unique)
    except NoSuchTableError:
        raise SqlStatementError(
            f"there is no table {name!r} in {database.where}; make it, or set create_table = true"
        ) from None
    except SQLAlchemyError as error:
        raise sql_error(getattr(error, "orig", None) or error) from None


def _table(
    engine: sqlalchemy.Engine,
    name: str,
    schema: str | None,
    columns: Sequence[Column],
    *,
    create: bool,
    unique: str | None,
) -> Table:
    def found() -> list[Any]:
        with engine.connect() as connection:
            there = list(sqlalchemy.inspect(connection).get_columns(name, schema))
        if not there:
            # SQLite is asked twice: another worker made the table between the two.
            raise NoSuchTableError(name)
        return there

    try:
        there = found()
    except NoSuchTableError:
        if not create:
            raise
        there = _created(engine, name, schema, columns, unique, found)
    names = {one["name"]: one["type"] for one in there}
    for column in columns:
        if column.name not in names:
            close = nearest(column.name, names)
            hint = f"did you mean {close!r}?" if close else f"it has {', '.join(map(repr, names))}"
            raise SqlStatementError(f"the table {name!r} has no column {column.name!r}; {hint}")
    return Table(
        binary=frozenset(key for key, kind in names.items() if _holds_bytes(kind)),
        json=frozenset(key for key, kind in names.items() if isinstance(kind, sqlalchemy.JSON))
        | {column.name for column in columns if column.type.startswith("json")},
        naive=frozenset(
            key for key, kind in names.items() if isinstance(kind, sqlalchemy.DateTime) and not kind.timezone
        ),
        kinds=frozenset((key, repr(kind)) for key, kind in names.items()),
    )


def _created(
    engine: sqlalchemy.Engine,
    name: str,
    schema: str | None,
    columns: Sequence[Column],
    unique: str | None,
    found: Callable[[], list[Any]],
) -> list[Any]:
    types = TypeMap(engine.dialect)
    made = sqlalchemy.Table(
        name,
        sqlalchemy.MetaData(),
        *[
            sqlalchemy.Column(
                column.name,
                _roomy(types.resolve(column.type), engine.dialect.name),
                primary_key=column.name == unique,
                autoincrement=False,
            )
            for column in columns
        ],
        schema=schema,
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )
    try:
        with engine.begin() as connection:
            connection.execute(sqlalchemy.schema.CreateTable(made, if_not_exists=True))
    except SQLAlchemyError as error:
        # Of two workers that make it at the same moment PostgreSQL refuses one, which then finds it there.
        try:
            return found()
        except NoSuchTableError:
            raise error from None
    return found()


def _roomy(kind: Any, dialect: str) -> Any:
    """Return a type that holds what the others do: MySQL's TEXT ends at 64 kB."""
    roomy = type(kind) is sqlalchemy.Text and dialect in ("mysql", "mariadb")
    return mysql.LONGTEXT() if roomy else kind


def _holds_bytes(kind: Any) -> bool:
    return isinstance(kind, sqlalchemy.LargeBinary | sqlalchemy.types._Binary | sqlalchemy.types.NullType)
