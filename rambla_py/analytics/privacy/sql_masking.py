"""Masking of the values in a SQL statement."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from rambla_py.analytics.privacy.sql_tokens import Part, Role, other_reading, parts_of

__all__ = ["MaskedSql", "masked_sql"]

# Statements whose text is recorded. Others hold passwords or data outside of literals: SET, COPY, CALL.
_WITH_TEXT: Final = frozenset(
    str.split(
        "SELECT INSERT UPDATE DELETE MERGE REPLACE WITH VALUES TABLE CREATE ALTER DROP TRUNCATE BEGIN START"
        " COMMIT ROLLBACK SAVEPOINT RELEASE ANALYZE VACUUM EXPLAIN DESCRIBE DESC END REINDEX"
    )
)
_ACCOUNTS: Final = frozenset(str.split("USER ROLE LOGIN ACCOUNT CREDENTIAL SECRET IDENTIFIED"))
_TABLES: Final = frozenset(str.split("TABLE INDEX VIEW FUNCTION PROCEDURE TRIGGER SCHEMA SEQUENCE TYPE"))
_MAIN: Final = frozenset(str.split("SELECT INSERT UPDATE DELETE MERGE REPLACE VALUES"))
_TYPOGRAPHIC_QUOTES = r"\u2018-\u201f\u00ab\u00bb\u2039\u203a\u00b4\uff07\uff02\u2032-\u2037\u300c-\u300f"
# What no dialect can be trusted to read: NUL, templates, a comment inside a comment.
_NEVER = re.compile(rf"[\x00\x1a{_TYPOGRAPHIC_QUOTES}]|\{{[#%{{]|/\*(?:(?!\*/).)*/\*", re.DOTALL)
# Where the dialects disagree about what is a literal, a comment or an identifier.
_DIALECTAL = re.compile(r"""[\\"`#$]|\bn?q'|\r(?!\n)|\[[^\]]*'""", re.IGNORECASE)
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
    if _NEVER.search(statement) or (dialect is None and _DIALECTAL.search(statement)):
        return None
    parts = parts_of(statement, dialect)
    if not parts or not _may_have_text(parts):
        return None
    text = _joined(parts)
    if dialect is not None and _ESCAPED_QUOTE.search(statement):
        other = other_reading(statement, dialect)
        if other and _joined(other) != text:
            return None
    return MaskedSql(text, _type_of(parts))


def _may_have_text(parts: list[Part]) -> bool:
    """Return whether no statement of the parts is of a kind that holds secrets outside of literals."""
    words: list[str] = []
    for part in [*parts, Part(Role.SIGN, ";", 0, 0)]:
        if part.text == ";":
            if words and not _is_harmless(words):
                return False
            words = []
        elif part.role is Role.WORD:
            words.append(part.text.upper())
        elif not words and part.text != "(":
            return False
    return True


def _is_harmless(words: list[str]) -> bool:
    if words[0] not in _WITH_TEXT or "IDENTIFIED" in words:
        return False
    if words[0] not in ("CREATE", "ALTER", "DROP"):
        return True
    for word in words[1:5]:
        if word in _ACCOUNTS:
            return False
        if word in _TABLES:
            return True
    return True


def _type_of(parts: list[Part]) -> str:
    """Return the first word; of a statement that starts with WITH, the one after its subqueries."""
    words = [part for part in parts if part.role is Role.WORD]
    first = words[0].text.upper()
    if first != "WITH":
        return first
    depth = 0
    for part in parts:
        depth += {"(": 1, ")": -1}.get(part.text, 0)
        if depth == 0 and part.role is Role.WORD and part.text.upper() in _MAIN:
            return part.text.upper()
    return first


def _joined(parts: list[Part]) -> str:
    """Return the statement with one blank for whitespace and comments, and with lists of values as one."""
    pieces: list[str] = []
    end = parts[0].start
    for part in _without_rows(_without_data(parts)):
        if part.start > end:
            pieces.append(" ")
        pieces.append(_VALUE if part.role is Role.VALUE else part.text)
        end = part.end
    text = _SIGNED.sub(r"\1", "".join(pieces))
    text = _LIST.sub(rf"\1{_VALUE}\2", text)
    for _ in range(2):  # a list of lists
        text = _LIST.sub(rf"\1{_VALUE}\2", _LISTS.sub(f"({_VALUE})", text))
    return text.replace(_VALUE, "?")


def _without_data(parts: list[Part]) -> list[Part]:
    """Return the parts before the data of ClickHouse's ``INSERT ... FORMAT name data``."""
    if parts[0].text.upper() != "INSERT":
        return parts
    for at, part in enumerate(parts):
        if part.role is Role.WORD and part.text.upper() == "FORMAT" and parts[at - 1].text != ".":
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
