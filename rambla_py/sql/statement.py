"""Preparation of a statement: values, types and returned columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import BindParameter, TextClause

from rambla_py.errors import nearest
from rambla_py.sql.dialect import SqlDialect
from rambla_py.sql.errors import SqlStatementError
from rambla_py.sql.parameters import Parameters, expression_values, text_values
from rambla_py.sql.placeholders import Parsed, Syntax, parse
from rambla_py.sql.types import TypeMap

__all__ = ["Prepared", "prepare", "unknown_column"]


class Prepared(NamedTuple):
    """A statement with its values: a mapping, a list of mappings for many rows, or None.

    ``column_names`` are the columns whose types were given; a result without one of them is refused.
    """

    statement: Executable
    values: Any
    writes: bool
    inserts: bool
    column_names: frozenset[str] = frozenset()


def prepare(
    sql: str | Executable,
    params: Parameters,
    *,
    types: TypeMap,
    alchemy: Any,
    dialect: SqlDialect,
    many: bool = False,
    returning: Sequence[str] = (),
    column_types: Mapping[str, Any] | None = None,
) -> Prepared:
    """Return a statement ready to run.

    Raises ``SqlStatementError`` if placeholders and values do not correspond, if a name in ``returning`` or
    ``column_types`` is unknown; ``UnsupportedTypeError`` for a type.
    """
    _check_names(returning)
    if not isinstance(sql, str):
        return _expression(sql, params, returning, column_types, alchemy, many=many)
    given = {name: types.resolve(kind) for name, kind in (column_types or {}).items()}
    positional, values, rows = text_values(sql, params, dialect.syntax, many=many)
    parsed = parse(sql, dialect.syntax, positional=positional)
    _check_cast(parsed, dialect.syntax)
    if isinstance(values, list):
        _check_many(parsed, returning)
    text = _with_returning(parsed, returning, alchemy, dialect)
    named = frozenset(() if positional else parsed.names)
    columns = frozenset(given) - named
    _check_columns(columns, parsed, returning, named)
    statement = _typed(sqlalchemy.text(text), rows, given if not positional else {}, types)
    if given:
        # As columns too, so that results are converted by the same types.
        statement = statement.columns(**given)  # type: ignore[assignment]  # a TextualSelect runs as well
    return Prepared(statement, values, parsed.writes, parsed.word in ("insert", "replace"), columns)


def _check_many(parsed: Parsed, returning: Sequence[str]) -> None:
    if not parsed.writes:
        raise SqlStatementError("many rows go with a statement that writes; run a query once for each")
    if returning or parsed.returning:
        raise SqlStatementError("RETURNING goes with one row; drivers drop what it gives for many rows")


def _check_names(returning: Any) -> None:
    if isinstance(returning, str) or not all(isinstance(name, str) for name in returning):
        raise SqlStatementError("returning must be a list of column names")
    if len(set(returning)) < len(returning):
        raise SqlStatementError("returning names a column twice")


def _check_cast(parsed: Parsed, syntax: Syntax) -> None:
    if parsed.cast and not syntax.colon_casts:
        raise SqlStatementError(
            f"{parsed.cast} is followed by ::, PostgreSQL's cast, which this database does not have; "
            f"write CAST({parsed.cast} AS type), or give the type in column_types"
        )


def _check_columns(
    columns: frozenset[str], parsed: Parsed, returning: Sequence[str], named: frozenset[str]
) -> None:
    """Refuse types of unknown columns as far as the columns are known before the statement runs."""
    if not parsed.writes or parsed.returning:
        return
    known = named | set(returning)
    for name in columns - known:
        raise unknown_column(name, known)


def unknown_column(name: str, known: Iterable[str]) -> SqlStatementError:
    """Return the error for a type of a name that is neither a placeholder nor a column of the result."""
    close = nearest(name, known)
    hint = f"did you mean {close!r}?" if close else f"known are {', '.join(sorted(known)) or 'none'}"
    return SqlStatementError(
        f"column_types names {name!r}, which is neither a placeholder nor a column of the result; {hint}"
    )


def _typed(
    statement: TextClause, rows: Sequence[Mapping[str, Any]], given: Mapping[str, Any], types: TypeMap
) -> TextClause:
    """Give each placeholder the type that was asked for, or the type of its values."""
    for name in statement._bindparams:
        kind = given.get(name)
        if kind is None:
            kind = types.common_type([row[name] for row in rows])
        if kind is not None:
            statement = statement.bindparams(sqlalchemy.bindparam(name, type_=kind))
    return statement


def _with_returning(parsed: Parsed, returning: Sequence[str], alchemy: Any, dialect: SqlDialect) -> str:
    if not returning:
        return parsed.text
    _check_returning(parsed.word, alchemy)
    names = ", ".join(map(dialect.quote_column, returning))
    # On a line of its own: the statement may end with a comment.
    return f"{parsed.text.rstrip().rstrip(';')}\nRETURNING {names}"


def _check_returning(word: str, dialect: Any) -> None:
    able = {
        "insert": dialect.insert_returning,
        "update": dialect.update_returning,
        "delete": dialect.delete_returning,
        "replace": dialect.insert_returning,
        "with": dialect.insert_returning,
    }
    if word not in able:
        raise SqlStatementError(f"returning goes with INSERT, UPDATE and DELETE, not with {word.upper()!r}")
    if not able[word]:
        raise SqlStatementError(f"this {dialect.name} has no RETURNING for {word.upper()}")


def _expression(
    sql: Executable, params: Any, returning: Sequence[str], column_types: Any, dialect: Any, *, many: bool
) -> Prepared:
    if column_types:
        raise SqlStatementError("column_types goes with SQL text; an expression has the types of its columns")
    inserts = bool(getattr(sql, "is_insert", False))
    tree: Any = sql
    placeholders = {one.key for one in visitors.iterate(tree) if isinstance(one, BindParameter)}
    table = getattr(sql, "table", None)
    if table is not None and (inserts or getattr(sql, "is_update", False)):
        placeholders |= set(table.c.keys())  # SQLAlchemy drops values for others
    values = expression_values(params, placeholders, many=many)
    if returning:
        _check_returning(type(sql).__name__.lower(), dialect)
        if table is None:
            raise SqlStatementError("returning goes with an INSERT, UPDATE or DELETE")
        for name in returning:
            if name not in table.c:
                close = nearest(name, table.c.keys())
                hint = f"; did you mean {close!r}?" if close else ""
                raise SqlStatementError(f"returning names {name!r}, which the table does not have{hint}")
        sql = sql.returning(*[table.c[name] for name in returning])  # type: ignore[attr-defined]
    return Prepared(sql, values, not getattr(sql, "is_select", False), inserts)
