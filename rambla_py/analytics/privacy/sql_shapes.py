"""Which SQL statements are recorded, by the order of their words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rambla_py.analytics.privacy.sql_tokens import Part, Role

__all__ = ["is_recorded", "type_of"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The first word, and the words of which one must follow: prose and other languages begin with such words too.
# Statements that are not here hold passwords or data outside of literals: SET, COPY, CALL, EXECUTE.
_SHAPES: Final = {
    "SELECT": _words(""),
    "INSERT": _words("INTO VALUES SELECT SET OVERWRITE"),
    "REPLACE": _words("INTO VALUES SELECT SET"),
    "UPDATE": _words("SET"),
    "DELETE": _words("FROM"),
    "MERGE": _words("USING"),
    "WITH": _words("SELECT INSERT UPDATE DELETE MERGE"),
    "VALUES": _words(""),
    "EXPLAIN": _words(""),
    "TRUNCATE": _words(""),
}
_DEFINITIONS: Final = _words("CREATE ALTER DROP")
_OBJECTS: Final = _words(
    "TABLE INDEX VIEW FUNCTION PROCEDURE TRIGGER SCHEMA SEQUENCE TYPE DATABASE EXTENSION AGGREGATE"
    " DOMAIN DICTIONARY"
)
_ACCOUNTS: Final = _words("USER ROLE LOGIN ACCOUNT CREDENTIAL SECRET SERVER SUBSCRIPTION")
_BEFORE_OBJECT: Final = 5
"""Words of a definition among which its kind of object is: CREATE OR REPLACE TEMPORARY VIEW."""
_TRANSACTIONS: Final = _words("BEGIN START COMMIT ROLLBACK END SAVEPOINT RELEASE")
_OF_TRANSACTIONS: Final = _words(
    "TRANSACTION WORK AND NO CHAIN READ WRITE ONLY ISOLATION LEVEL SERIALIZABLE REPEATABLE COMMITTED"
    " UNCOMMITTED DEFERRABLE NOT DEFERRED IMMEDIATE EXCLUSIVE WITH CONSISTENT SNAPSHOT TO SAVEPOINT"
)
_MAIN: Final = _words("SELECT INSERT UPDATE DELETE MERGE REPLACE VALUES")
_UNKNOWN_KEYWORDS: Final = _words(
    "NULLS LAST SKIP LOCKED NOWAIT NOTHING DUPLICATE KEY MATERIALIZED MATCHED FORCE IGNORE ONLY"
    " BERNOULLI SYSTEM SHARE IDENTITY RECURSIVE WITHIN TIES PRECEDING FOLLOWING ADD LOW_PRIORITY DELAYED"
    " STRAIGHT_JOIN WITHOUT ZONE"
)
_MOST_NAMES: Final = 2
"""Names that may follow one another in SQL: a table and its alias. Prose has more."""


def is_recorded(parts: list[Part]) -> bool:
    """Return whether each of the statements is one whose text is recorded.

    >>> from rambla_py.analytics.privacy.sql_tokens import parts_of
    >>> [is_recorded(parts_of(text, None)) for text in ("DELETE FROM t", "DELETE user bob", "SET a = b")]
    [True, False, False]
    """
    return all(map(_is_recorded, _statements(parts)))


def type_of(parts: list[Part]) -> str:
    """Return the first word; of a statement that starts with WITH, the one after its subqueries."""
    first = parts[0].text.upper()
    if first == "(":
        return next((part.text.upper() for part in parts if part.role is not Role.SIGN), first)
    if first != "WITH":
        return first
    depth = 0
    for part in parts:
        depth += {"(": 1, ")": -1}.get(part.text, 0)
        if depth == 0 and part.role is Role.WORD and part.text.upper() in _MAIN:
            return part.text.upper()
    return first


def _statements(parts: list[Part]) -> Iterator[list[Part]]:
    statement: list[Part] = []
    for part in parts:
        if part.text == ";":
            yield statement
            statement = []
        else:
            statement.append(part)
    yield statement


def _is_recorded(parts: list[Part]) -> bool:
    while parts and parts[0].text == "(":
        parts = parts[1:]
    if not parts:
        return True
    words = [part.text.upper() for part in parts if part.role in (Role.WORD, Role.NAME)]
    if not words or words[0] != parts[0].text.upper() or "IDENTIFIED" in words:
        return False
    first = words[0]
    if first in _TRANSACTIONS:
        return len(words) == len(parts) and _is_transaction(words)
    if first in _DEFINITIONS:
        return _defines_object(words)
    shape = _SHAPES.get(first)
    if shape is None or (shape and shape.isdisjoint(words)):
        return False
    return _longest_run_of_names(parts) <= _MOST_NAMES


def _is_transaction(words: list[str]) -> bool:
    others = [word for word in words[1:] if word not in _OF_TRANSACTIONS]
    named = words[0] in ("SAVEPOINT", "RELEASE") or "TO" in words
    return len(others) <= (1 if named else 0)


def _defines_object(words: list[str]) -> bool:
    for word in words[1:_BEFORE_OBJECT]:
        if word in _ACCOUNTS:
            return False
        if word in _OBJECTS:
            return True
    return False


def _longest_run_of_names(parts: list[Part]) -> int:
    longest = run = 0
    for part in parts:
        is_name = part.role is Role.NAME and part.text.upper() not in _UNKNOWN_KEYWORDS
        run = run + 1 if is_name else 0
        longest = max(longest, run)
    return longest
