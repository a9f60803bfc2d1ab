"""Inspection of a table that a channel writes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import NoSuchTableError, SQLAlchemyError

from rambla_py.errors import nearest
from rambla_py.handlers._tables.columns import Column
from rambla_py.handlers._tables.options import TablePlan
from rambla_py.handlers.sql.definition import Definition, left_in_json
from rambla_py.sql.column_forms import ColumnForm
from rambla_py.sql.database import Database
from rambla_py.sql.errors import SqlStatementError

__all__ = ["MissingError", "Table", "look_at"]


class MissingError(SqlStatementError):
    """A table, or a column of it, does not exist; ``what`` names it.

    ``option`` is the option that would create it.
    """

    what: str = ""
    option: str = ""


class Table(NamedTuple):
    """Columns of a table that hold bytes, JSON, and times without a zone; forms of values by column.

    ``columns`` are those that rows fill. ``kinds`` has all columns with their types, to detect changes;
    ``names`` has their names, in order. With ``by_name`` each payload names its columns.
    """

    columns: tuple[Column, ...]
    binary: frozenset[str]
    json: frozenset[str]
    naive: frozenset[str]
    forms: Mapping[str, ColumnForm]
    kinds: frozenset[tuple[str, str]]
    names: tuple[str, ...]
    by_name: bool


def look_at(
    database: Database, connection: Any, plan: TablePlan, *, create: bool, add: bool, may_add: bool
) -> Table:
    """Return the table of a plan, over a live connection of the driver.

    With ``create`` a missing table is created, and missing indexes; with ``add`` missing columns are added.
    With ``may_add``, the option, columns that cannot be added stay in the JSON column. A table with usual
    columns that has no column for the payload is ``by_name``.

    Raises ``MissingError`` if the table or one of the columns does not exist.
    """
    try:
        with database.engine_over(connection) as engine:
            definition = Definition(database, engine, plan)
            there = definition.found(create=create)
            if may_add:
                plan = left_in_json(plan, {one["name"] for one in there})
            if add:
                there = Definition(database, engine, plan).add(there)
            if create:
                definition.create_indexes(there)
    except NoSuchTableError:
        raise _missing(
            f"there is no table {plan.name!r} in {database.where}; create it, or set create_table = true",
            f"table {plan.name!r}",
            "create_table",
        ) from None
    except SQLAlchemyError as error:
        raise database.map_error(getattr(error, "orig", None) or error) from None
    return _table(database, plan, there)


def _table(database: Database, plan: TablePlan, there: Sequence[Any]) -> Table:
    names = {one["name"]: _base_type(one["type"]) for one in there}
    columns = plan.columns
    by_name = plan.usual and columns[-1].name not in names
    columns = columns[:-1] if by_name else columns
    for column in columns:
        if column.name not in names:
            close = nearest(column.name, names)
            hint = f"did you mean {close!r}?" if close else f"it has {', '.join(map(repr, names))}"
            table = plan.name.rpartition(".")[2]
            text = f"the table {table!r} has no column {column.name!r}; {hint}"
            raise _missing(text, f"column {column.name!r} of table {plan.name!r}", "add_columns")
    return Table(
        columns=columns,
        binary=frozenset(key for key, kind in names.items() if _holds_bytes(kind)),
        json=frozenset(key for key, kind in names.items() if isinstance(kind, sqlalchemy.JSON))
        | {column.name for column in columns if column.type.startswith("json")},
        naive=frozenset(
            key for key, kind in names.items() if isinstance(kind, sqlalchemy.DateTime) and not kind.timezone
        ),
        forms={key: form for key, kind in names.items() if (form := database.dialect.column_form(kind))},
        kinds=frozenset((one["name"], repr(one["type"])) for one in there),
        names=tuple(names),
        by_name=by_name,
    )


def _missing(text: str, what: str, option: str) -> MissingError:
    error = MissingError(text)
    error.what, error.option = what, option
    return error


def _base_type(kind: Any) -> Any:
    while isinstance(kind, postgresql.DOMAIN):
        kind = kind.data_type
    return kind


def _holds_bytes(kind: Any) -> bool:
    return isinstance(kind, sqlalchemy.LargeBinary | sqlalchemy.types._Binary | sqlalchemy.types.NullType)
