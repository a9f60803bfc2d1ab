"""Creation of tables, columns and indexes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from rambla_py.handlers._tables.columns import Column
from rambla_py.handlers._tables.options import TablePlan
from rambla_py.sql.database import Database
from rambla_py.sql.errors import SqlStatementError
from rambla_py.sql.types import TypeMap

__all__ = ["Definition", "left_in_json"]

_MOST_ADDED = 100
"""Columns that are added at a time: databases have limits of some hundreds or thousands."""
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_LONGEST_NAME = 60
"""PostgreSQL cuts names of more than 63 bytes."""


def left_in_json(plan: TablePlan, names: set[str]) -> TablePlan:
    """Return a plan without the columns that its table lacks and that cannot be added: no identifiers.

    Their values stay in the JSON column; without one, or where they are not from the payload, they are kept.

    >>> columns = (Column("a b", "payload", ("a b",)), Column("n", "payload", ("n",)), Column("rest", "rest"))
    >>> [column.name for column in left_in_json(TablePlan("t", columns), {"rest"}).columns]
    ['n', 'rest']
    """
    if not any(column.source == "rest" for column in plan.columns):
        return plan
    left = {
        column.name
        for column in plan.columns
        if column.source == "payload" and column.path and not _IDENTIFIER.fullmatch(column.name)
    } - names
    return plan._replace(columns=tuple(column for column in plan.columns if column.name not in left))


class Definition:
    """A table as a plan defines it, over an engine; methods raise ``SQLAlchemyError``."""

    def __init__(self, database: Database, engine: sqlalchemy.Engine, plan: TablePlan) -> None:
        self._dialect, self._engine, self._plan = database.dialect, engine, plan
        schema, _, self._name = plan.name.rpartition(".")
        self._schema = schema or None
        self._types = TypeMap(engine.dialect, names=database.dialect.types)

    def columns(self) -> list[Any]:
        """Return the table's columns, as SQLAlchemy describes them; raises ``NoSuchTableError``."""
        with self._engine.connect() as connection:
            there = list(sqlalchemy.inspect(connection).get_columns(self._name, self._schema))
        if not there:
            # SQLAlchemy asks SQLite twice: another worker created the table in between.
            raise NoSuchTableError(self._name)
        return there

    def found(self, *, create: bool) -> Sequence[Any]:
        """Return the table's columns; with ``create``, of a table that is missing and is then created."""
        try:
            return self.columns()
        except NoSuchTableError:
            if not create:
                raise
            return self._create()

    def _create(self) -> Sequence[Any]:
        made = self._made(self._plan.columns, key=self._plan.unique)
        statement = sqlalchemy.schema.CreateTable(made, if_not_exists=True)
        # Of two workers that create it at once PostgreSQL refuses one, which then finds it.
        self._execute(statement, is_there=self._exists)
        return self.columns()

    def add(self, there: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
        """Add the columns that the table, which has the columns ``there``, lacks; return all that it has.

        Raises ``SqlStatementError`` if it lacks more than 100.
        """
        names = {one["name"] for one in there}
        lacking = [column for column in self._plan.columns if column.name not in names]
        if self._plan.usual:
            # A table without the column of the payload has a column for each of its keys.
            lacking = [column for column in lacking if column.source != "rest"]
        if not lacking:
            return there
        if len(lacking) > _MOST_ADDED:
            raise SqlStatementError(
                f"the table {self._plan.name!r} lacks {len(lacking)} columns, and add_columns adds at most "
                f"{_MOST_ADDED}; create it, or the columns"
            )
        for column in lacking:
            self._add(column)
        return self.columns()

    def _add(self, column: Column) -> None:
        made = self._made([column]).columns[column.name]
        compiled = sqlalchemy.schema.CreateColumn(made).compile(self._engine)
        table = ".".join(map(self._dialect.quote, self._plan.name.split(".")))
        text = f"ALTER TABLE {table} ADD COLUMN {compiled}"
        self._execute(
            sqlalchemy.DDL(text.replace("%", "%%")),  # type: ignore[no-untyped-call]  # of SQLAlchemy
            is_there=lambda: column.name in {one["name"] for one in self.columns()},
        )

    def create_indexes(self, there: Sequence[Mapping[str, Any]]) -> None:
        """Create the indexes of the plan that the table, which has the columns ``there``, lacks."""
        kinds = {one["name"]: one["type"] for one in there}
        wanted = [index for index in self._plan.indexes if kinds.keys() >= set(index)]
        existing = self._indexes() if wanted else set()
        for index in wanted:
            if index not in existing:
                self._create_index(index, kinds)

    def _create_index(self, index: tuple[str, ...], kinds: Mapping[str, Any]) -> None:
        made = sqlalchemy.Table(
            self._name,
            sqlalchemy.MetaData(),
            *[sqlalchemy.Column(name, kinds[name]) for name in index],
            schema=self._schema,
        )
        lengths = {name: size for name in index if (size := self._dialect.index_length(kinds[name]))}
        name = _index_name(self._name, index)
        one = sqlalchemy.Index(
            name, *[made.columns[name] for name in index], mysql_length=lengths, mariadb_length=lengths
        )
        self._execute(sqlalchemy.schema.CreateIndex(one), is_there=lambda: index in self._indexes())

    def _made(self, columns: Sequence[Column], key: str | None = None) -> sqlalchemy.Table:
        return sqlalchemy.Table(
            self._name,
            sqlalchemy.MetaData(),
            *[
                sqlalchemy.Column(
                    column.name,
                    self._type_of(column),
                    primary_key=column.name == key,
                    autoincrement=False,
                )
                for column in columns
            ],
            schema=self._schema,
            mysql_charset="utf8mb4",
            mariadb_charset="utf8mb4",
        )

    def _type_of(self, column: Column) -> Any:
        kind = self._types.resolve(column.type)
        is_id = column.source == "id" or column.name == self._plan.unique
        return self._dialect.id_type(kind, self._engine.dialect) if is_id else self._dialect.column_type(kind)

    def _execute(self, statement: Any, *, is_there: Callable[[], bool]) -> None:
        """Execute; an error does not count if another worker has done the same in the meantime."""
        try:
            with self._engine.begin() as connection:
                connection.execute(statement)
        except SQLAlchemyError:
            if not is_there():
                raise

    def _exists(self) -> bool:
        try:
            return bool(self.columns())
        except NoSuchTableError:
            return False

    def _indexes(self) -> set[tuple[str, ...]]:
        """Return the columns of each index, of the primary key too."""
        with self._engine.connect() as connection:
            inspector = sqlalchemy.inspect(connection)
            found = [one["column_names"] for one in inspector.get_indexes(self._name, self._schema)]
            key = inspector.get_pk_constraint(self._name, self._schema)["constrained_columns"]
        return {tuple(name or "" for name in names) for names in found} | {tuple(key)}


def _index_name(table: str, columns: Sequence[str]) -> str:
    """Return the name of an index, which PostgreSQL and SQLite keep among those of all tables.

    >>> _index_name("orders", ["user_id", "at"])
    'ix_orders_user_id_at'
    """
    name = "_".join(("ix", table, *columns))
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256("\0".join((table, *columns)).encode()).hexdigest()[:12]
    return f"ix_{digest}"
