"""Masking of the values in a SQL statement."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from rambla_py._internal.redaction import looks_secret
from rambla_py.analytics.privacy.sql_shapes import is_recorded, type_of
from rambla_py.analytics.privacy.sql_tokens import Part, Role, other_reading, parts_of

__all__ = ["MaskedSql", "masked_sql"]

_TYPOGRAPHIC_QUOTES = r"\u2018-\u201f\u00ab\u00bb\u2039\u203a\u00b4\uff07\uff02\u2032-\u2037\u300c-\u300f"
# What no dialect can be trusted to read: NUL, templates, a comment inside a comment.
_NEVER = re.compile(rf"[\x00\x1a{_TYPOGRAPHIC_QUOTES}]|\{{[#%{{]|/\*(?:(?!\*/).)*/\*", re.DOTALL)
# Where the dialects disagree about what is a literal, a comment or an identifier.
_DIALECTAL = re.compile(r"""[\\"`#$]|\bn?q'|\r(?!\n)|\[[^\]]*'""", re.IGNORECASE)
# What is nothing in a dialect, so that the statement was written for another one.
_OF_ANOTHER = {
    "postgres": re.compile(r"`|#[\s\w]"),
    "mysql": re.compile(r"\$\w*\$|--(?!\s|\Z)"),
    "sqlite": re.compile(r"\$\w*\$|#"),
    "clickhouse": re.compile(r"(?!)"),
}
_ESCAPED_QUOTE = re.compile(r"""(?<!\\)(?:\\\\)*\\['"]""")
_VALUE: Final = "\x00"
"""Stands for a value until the statement is complete; no statement with this character is recorded."""

_SIGNED = re.compile(r"(?<=[(,=<>\[+*/%|&^~\-])( ?)[+\-] ?(?=\x00)")
_LIST = re.compile(r"([(\[]) ?\x00(?: ?, ?\x00| \x00)* ?([)\]])")
_LISTS = re.compile(r"\(\x00\)(?: ?, ?\(\x00\))+")


class MaskedSql(NamedTuple):
    """A statement without values, and its type."""

    text: str
    type: str


def masked_sql(statement: str, dialect: str | None) -> MaskedSql | None:
    """Return a statement with ``?`` for each value; None in doubt.

    ``dialect`` is sqlglot's name of a known dialect, or None.

    >>> masked_sql("SELECT a FROM t WHERE b = 'x' AND c IN (1, -2, 3)", "sqlite").text
    'SELECT a FROM t WHERE b = ? AND c IN (?)'
    >>> masked_sql('SELECT "a"', None) is None
    True
    """
    doubt = _OF_ANOTHER[dialect] if dialect else _DIALECTAL
    if _NEVER.search(statement) or doubt.search(statement):
        return None
    parts = parts_of(statement, dialect)
    if not parts or not is_recorded(parts):
        return None
    text = _joined(parts)
    if dialect is not None and _ESCAPED_QUOTE.search(statement):
        other = other_reading(statement, dialect)
        if other and _joined(other) != text:
            return None
    return MaskedSql(text, type_of(parts))


def _joined(parts: list[Part]) -> str:
    """Return the statement with one blank for whitespace and comments, and with lists of values as one."""
    pieces: list[str] = []
    end = parts[0].start
    for part in _without_rows(_without_data(_with_bare_values(parts))):
        if part.start > end:
            pieces.append(" ")
        pieces.append(_VALUE if part.role is Role.VALUE else part.text)
        end = part.end
    text = _SIGNED.sub(r"\1", "".join(pieces))
    text = _LIST.sub(rf"\1{_VALUE}\2", text)
    for _ in range(2):  # a list of lists
        text = _LIST.sub(rf"\1{_VALUE}\2", _LISTS.sub(f"({_VALUE})", text))
    return text.replace(_VALUE, "?")


def _with_bare_values(parts: list[Part]) -> list[Part]:
    """Return the parts with words that were written without quotes, where a value was meant, as values.

    ``password = hunter2``, ``IN (hunter2)`` and ``VALUES (hunter2)``: the server refuses them, but the
    statement is recorded.
    """
    result = list(parts)
    listed: list[bool] = []  # of each open bracket, whether it encloses values
    for at, part in enumerate(parts):
        before = parts[at - 1].text.upper() if at else ""
        after = parts[at + 1].text if at + 1 < len(parts) else ""
        if part.text == "(":
            rows = before == "," and at > 1 and parts[at - 2].text == ")" and not listed
            listed.append(before in ("IN", "VALUES") or rows)
        elif part.text == ")" and listed:
            listed.pop()
        elif part.role is not Role.NAME or after in (".", "("):
            continue
        elif (listed and listed[-1] and before in ("(", ",") and after in (")", ",")) or (
            before in ("=", "==", ":=", "<>", "!=", "LIKE", "ILIKE") and _is_secret(parts[at - 2])
        ):
            result[at] = part._replace(role=Role.VALUE)
    return result


def _is_secret(part: Part) -> bool:
    return part.role in (Role.NAME, Role.WORD) and looks_secret(part.text.strip('"`[]'))


def _without_data(parts: list[Part]) -> list[Part]:
    """Return the parts before the data of ClickHouse's ``INSERT ... FORMAT name data``."""
    if parts[0].text.upper() != "INSERT":
        return parts
    for at, part in enumerate(parts):
        if part.text.upper() == "FORMAT" and parts[at - 1].text != ".":
            return parts[: at + 2]
    return parts


def _without_rows(parts: list[Part]) -> list[Part]:
    """Return the parts with the first row only of those after VALUES."""
    result: list[Part] = []
    depth = at = 0
    row_depth: int | None = None
    while at < len(parts):
        part = parts[at]
        depth += {"(": 1, ")": -1}.get(part.text, 0)
        result.append(part)
        if part.role is Role.WORD and part.text.upper() == "VALUES":
            row_depth = depth
        if part.text == ")" and row_depth == depth:
            at = _end_of_rows(parts, at)
            result[-1] = part._replace(end=parts[at].end)
            row_depth = None
        at += 1
    return result


def _end_of_rows(parts: list[Part], at: int) -> int:
    """Return the index of the bracket that closes the last of the rows that follow one another."""
    depth, last = 0, at
    for index in range(at + 1, len(parts)):
        text = parts[index].text
        depth += {"(": 1, ")": -1}.get(text, 0)
        if depth == 0 and text == ")":
            last = index
        elif depth == 0 and text != ",":
            break
    return last
