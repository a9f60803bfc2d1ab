"""This module makes a statement ready: its places, its types, what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import TextClause

from rambla_py.sql.errors import SqlStatementError
from rambla_py.sql.placeholders import first_word, is_write, named_places
from rambla_py.sql.types import TypeMap

__all__ = ["Prepared", "prepare"]

Parameters = Mapping[str, Any] | Sequence[Any] | None


# The drivers know them, and PostgreSQL then takes text for a date as it takes it in SQL.
_AS_THEY_ARE = frozenset({str, int, float, bool, type(None)})


class Prepared(NamedTuple):
    """A statement with its values: a mapping, a list of mappings for many rows, or None."""

    statement: Executable
    values: Any
    writes: bool
    inserts: bool
    returns: bool


def prepare(
    sql: str | Executable,
    params: Parameters,
    *,
    types: TypeMap,
    dialect: Any,
    returning: Sequence[str] = (),
    column_types: Mapping[str, Any] | None = None,
) -> Prepared:
    """Return a statement ready to run; raises ``SqlStatementError`` and ``UnsupportedTypeError``."""
    if not isinstance(sql, str):
        return _expression(sql, params, returning, dialect)
    positional = isinstance(params, Sequence) and bool(params) and not isinstance(params[0], Mapping)
    word = first_word(sql)
    writes = is_write(sql)
    if returning:
        sql = _with_returning(sql, word, returning, dialect)
    given = {name: types.resolve(kind) for name, kind in (column_types or {}).items()}
    statement = sqlalchemy.text(named_places(sql, positional=positional))
    values, rows = _values(params, positional)
    statement = _typed(statement, rows, given, types)
    if given:
        # As columns too, so that what comes back is converted by the same types.
        statement = statement.columns(**given)  # type: ignore[assignment]  # a TextualSelect runs as well
    return Prepared(statement, values, writes, word in ("insert", "replace"), bool(returning) or not writes)


def _expression(sql: Executable, params: Any, returning: Sequence[str], dialect: Any) -> Prepared:
    if returning:
        _check_returning(type(sql).__name__.lower(), dialect)
        table = getattr(sql, "table", None)
        if table is None:
            raise SqlStatementError("returning goes with an INSERT, UPDATE or DELETE")
        sql = sql.returning(*[table.c[name] for name in returning])  # type: ignore[attr-defined]
    writes = not getattr(sql, "is_select", False)
    inserts = bool(getattr(sql, "is_insert", False))
    return Prepared(sql, params, writes, inserts, bool(returning) or not writes)


def _values(params: Any, positional: bool) -> tuple[Any, list[Mapping[str, Any]]]:
    """Return the values as SQLAlchemy takes them, and as a list of rows."""
    if params is None or (not isinstance(params, Mapping) and not params):
        return None, []
    if isinstance(params, Mapping):
        return params, [params]
    if not positional:
        return params, list(params)
    if all(isinstance(row, Sequence) and not isinstance(row, str | bytes) for row in params):
        rows = [{f"p{at}": value for at, value in enumerate(row)} for row in params]
        return rows, list(rows)
    row = {f"p{at}": value for at, value in enumerate(params)}
    return row, [row]


def _typed(
    statement: TextClause, rows: Sequence[Mapping[str, Any]], given: Mapping[str, Any], types: TypeMap
) -> TextClause:
    """Give each place the type that was asked for, or the type of its first value that is not None."""
    for name in statement._bindparams:
        if name in given:
            kind = given[name]
        else:
            value = next((row[name] for row in rows if row.get(name) is not None), None)
            if type(value) in _AS_THEY_ARE:
                continue
            kind = types.type_of(value)
        statement = statement.bindparams(sqlalchemy.bindparam(name, type_=kind))
    return statement


def _with_returning(sql: str, word: str, returning: Sequence[str], dialect: Any) -> str:
    _check_returning(word, dialect)
    names = ", ".join(dialect.identifier_preparer.quote(name) for name in returning)
    return f"{sql.rstrip().rstrip(';')} RETURNING {names}"


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
