"""Values of a statement, checked against its placeholders."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from rambla_py.errors import nearest
from rambla_py.sql.errors import SqlStatementError
from rambla_py.sql.placeholders import Parsed, Syntax, parse

__all__ = ["Parameters", "expression_values", "text_values"]

Parameters = Mapping[str, Any] | Sequence[Any] | None

_Row = Mapping[str, Any]
_SHAPES = "a mapping for :name, a list of values for ?, or a list of mappings for many rows"


def text_values(
    sql: str, params: Any, syntax: Syntax, *, many: bool = False
) -> tuple[bool, _Row | list[_Row] | None, list[_Row]]:
    """Return whether the placeholders are positional, the values for SQLAlchemy, and the rows in a list.

    Raises ``SqlStatementError`` unless every placeholder has one value and every value one placeholder.

    >>> text_values("update t set n = ?", [1, 99], Syntax())
    Traceback (most recent call last):
    ...
    rambla_py.sql.errors.SqlStatementError: 2 values for 1 placeholder (?); each placeholder takes one value
    """
    parsed = parse(sql, syntax)
    if many:
        return _many(parsed, params, syntax)
    if params is None or (_is_list(params) and not params):
        _check_row({}, parsed, "")
        if parsed.positional and not (params is None and syntax.question_operators):
            raise _wrong_count(parsed, 0, syntax, "")
        return False, None, []
    if isinstance(params, Mapping):
        _check_named(params, parsed, syntax, "")
        return False, params, [params]
    if not _is_list(params):
        raise SqlStatementError(f"params must be {_SHAPES}; got {type(params).__name__}")
    if all(isinstance(row, Mapping) for row in params):
        return _named_rows(parsed, params, syntax)
    if any(isinstance(row, Mapping) for row in params) and parsed.names:
        raise SqlStatementError("params mixes mappings with other values; many rows are a list of mappings")
    if all(_is_list(value) for value in params):
        raise SqlStatementError(
            "params is a list of lists; write many rows with execute_many(), and give a list that is a value "
            "to a :name placeholder"
        )
    row = _positional_row(parsed, params, syntax, "")
    return True, row, [row]


def expression_values(params: Any, names: Collection[str], *, many: bool = False) -> Any:
    """Return the values for an expression of SQLAlchemy Core; raises ``SqlStatementError``.

    ``names`` are those of its placeholders, and of the columns of an INSERT or UPDATE.
    """
    if params is None and not many:
        return None
    rows = [params] if isinstance(params, Mapping) and not many else params
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes | Mapping):
        raise SqlStatementError(
            f"params must be a mapping or a list of mappings; got {type(params).__name__}"
        )
    rows = list(rows)
    for at, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise SqlStatementError(
                f"params must be a mapping or a list of mappings; row {at} is a {type(row).__name__}"
            )
        if row.keys() != rows[0].keys():
            raise SqlStatementError(f"row {at} has other names than row 0; all rows must have the same")
        for name in row:
            if name not in names:
                raise SqlStatementError(f"the value {name!r} has no placeholder in the expression")
    if many or not isinstance(params, Mapping):
        return rows or None
    return params


def _many(parsed: Parsed, params: Any, syntax: Syntax) -> tuple[bool, list[_Row], list[_Row]]:
    if isinstance(params, str | bytes | Mapping) or not isinstance(params, Iterable):
        raise SqlStatementError(f"rows must be a list of mappings or of lists; got {type(params).__name__}")
    rows = list(params)
    if all(isinstance(row, Mapping) for row in rows):
        return _named_rows(parsed, rows, syntax)
    for at, row in enumerate(rows):
        if not _is_list(row):
            raise SqlStatementError(
                f"row {at} is a {type(row).__name__}; all rows must be lists, or mappings"
            )
    made = [_positional_row(parsed, row, syntax, f"row {at}: ") for at, row in enumerate(rows)]
    return True, list(made), list(made)


def _named_rows(parsed: Parsed, rows: Sequence[_Row], syntax: Syntax) -> tuple[bool, list[_Row], list[_Row]]:
    for at, row in enumerate(rows):
        _check_named(row, parsed, syntax, f"row {at}: ")
    return False, list(rows), list(rows)


def _check_named(row: _Row, parsed: Parsed, syntax: Syntax, where: str) -> None:
    if parsed.positional and not syntax.question_operators:
        raise SqlStatementError(
            f"{where}the statement has ? placeholders, and the values have names; write :name, "
            "or give the values as a list"
        )
    _check_row(row, parsed, where)


def _check_row(row: _Row, parsed: Parsed, where: str) -> None:
    if len(row) == len(parsed.names) and all(name in row for name in parsed.names):
        return
    missing = [name for name in parsed.names if name not in row]
    surplus = [name for name in row if name not in parsed.names]
    if missing:
        close = nearest(missing[0], map(str, surplus))
        hint = f"; did you mean it by {close!r}?" if close else ""
        raise SqlStatementError(f"{where}no value for :{missing[0]}{hint}")
    have = ", ".join(f":{name}" for name in parsed.names) or "none"
    raise SqlStatementError(
        f"{where}the value {surplus[0]!r} has no placeholder; those of the statement: {have}"
    )


def _positional_row(parsed: Parsed, row: Sequence[Any], syntax: Syntax, where: str) -> _Row:
    if parsed.names:
        raise SqlStatementError(
            f"{where}the statement has :{parsed.names[0]}, and the values have no names; give a mapping, "
            "or write ? for each placeholder"
        )
    if len(row) != parsed.positional:
        raise _wrong_count(parsed, len(row), syntax, where)
    return {f"p{at}": value for at, value in enumerate(row)}


def _wrong_count(parsed: Parsed, values: int, syntax: Syntax, where: str) -> SqlStatementError:
    hint = "; with ? as an operator, write :name for values" if syntax.question_operators else ""
    return SqlStatementError(
        f"{where}{_number(values, 'value')} for {_number(parsed.positional, 'placeholder')} (?); "
        f"each placeholder takes one value{hint}"
    )


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview)
