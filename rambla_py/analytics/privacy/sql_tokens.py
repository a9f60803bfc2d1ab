"""Tokens of a SQL statement, each a word, a sign or a value."""

from __future__ import annotations

import re
from enum import Enum
from typing import Any, Final, NamedTuple

from sqlglot.dialects.dialect import Dialect
from sqlglot.dialects.mysql import MySQL
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

__all__ = ["Part", "Role", "other_reading", "parts_of"]


class Role(Enum):
    """What a token is."""

    WORD = "keyword"
    NAME = "identifier, or a word that is no keyword"
    SIGN = "operator or punctuation"
    VALUE = "literal or placeholder"


class Part(NamedTuple):
    """A token: its role, its text in the statement, and where it starts and ends."""

    role: Role
    text: str
    start: int
    end: int


_STRINGS: Final = frozenset(
    (
        TokenType.STRING,
        TokenType.RAW_STRING,
        TokenType.HEREDOC_STRING,
        TokenType.UNICODE_STRING,
        TokenType.NATIONAL_STRING,
        TokenType.BYTE_STRING,
        TokenType.HEX_STRING,
        TokenType.BIT_STRING,
    )
)
_LITERALS: Final = _STRINGS | {TokenType.NUMBER, TokenType.PLACEHOLDER}
_AFTER_STRING: Final = re.compile(r"[\s,);:|\]=<>!]|\Z")
# What may follow a literal as a word that sqlglot does not know as a keyword.
_UNITS: Final = frozenset(
    str.split(
        "YEAR MONTH DAY HOUR MINUTE SECOND YEARS MONTHS DAYS HOURS MINUTES SECONDS WEEK WEEKS UESCAPE AT"
    )
)
_PREFIX = re.compile(r"_\w+|[A-Za-z]{1,2}&?")  # of a literal: _utf8'x', E'x'
_PLAIN_NAME = re.compile(r"[\w$.\-]+(?: [\w$.\-]+){0,3}")
_IS_VALUE = re.compile(r"\d|\$.")
_LONGEST_NAME: Final = 64
_COMPARISONS: Final = frozenset(str.split("= == <> != < > <= >= <=> ~ ~* ~~ ~~* LIKE ILIKE RLIKE IN VALUES"))
_IDENTIFIER_PLACES: Final = frozenset(["FROM", "JOIN", "INTO", "UPDATE", "TABLE"])


class _MySqlNoBackslash(MySQL.Tokenizer):
    """MySQL with ``NO_BACKSLASH_ESCAPES``."""

    STRING_ESCAPES = ["'", '"']  # noqa: RUF012  # a class attribute of sqlglot's


class _PostgresBackslash(Postgres.Tokenizer):
    """PostgreSQL with ``standard_conforming_strings = off``."""

    STRING_ESCAPES = ["'", "\\"]  # noqa: RUF012


_OTHER_READINGS: Final[dict[str, type[Tokenizer]]] = {
    "mysql": _MySqlNoBackslash,
    "postgres": _PostgresBackslash,
}


def parts_of(statement: str, dialect: str | None) -> list[Part] | None:
    """Return the tokens of a statement; None in doubt about where a literal ends.

    >>> [part.role.name for part in parts_of("a = 0x1F", "sqlite")]
    ['NAME', 'SIGN', 'VALUE']
    >>> parts_of("name = 'O'Brien'", "sqlite") is None
    True
    """
    try:
        return _classified(Dialect.get_or_raise(dialect).tokenize(statement), statement, dialect)
    except SqlglotError:
        return None


def other_reading(statement: str, dialect: str) -> list[Part] | None:
    """Return the tokens as a server that treats backslashes the other way reads them; None if it cannot.

    A setting of the server decides whether a backslash escapes a quote. Not in SQLite and ClickHouse.
    """
    tokenizer = _OTHER_READINGS.get(dialect)
    if tokenizer is None:
        return None
    try:
        return _classified(tokenizer(dialect).tokenize(statement), statement, dialect)
    except SqlglotError:
        return None


def _classified(tokens: list[Token], statement: str, dialect: str | None) -> list[Part] | None:
    parts: list[Part] = []
    after_string = False
    for at, token in enumerate(tokens):
        if token.token_type is TokenType.HINT:
            continue
        part = _part(token, statement)
        if after_string and _is_doubtful(parts[-1], part, token):
            return None
        after_string = token.token_type in _STRINGS
        if after_string and not _AFTER_STRING.match(statement, part.end):
            return None
        if part.text == "\\":
            return None
        if part.text[:1] == '"' and part.role is Role.NAME and not _is_identifier(tokens, at, dialect):
            part = part._replace(role=Role.VALUE)
        if not _extends_value(parts, part, token):
            parts.append(part)
    return _with_placeholders(parts)


def _part(token: Token, statement: str) -> Part:
    start, end = token.start, token.end + 1
    text = statement[start:end]
    kind = token.token_type
    if kind in _LITERALS or _IS_VALUE.match(text) or len(text) > _LONGEST_NAME:
        role = Role.VALUE
    elif kind is TokenType.IDENTIFIER:
        role = Role.NAME if _is_plain_name(text) else Role.VALUE
    elif text[:1].isalpha() or text[:1] == "_":
        role = Role.NAME if kind is TokenType.VAR else Role.WORD
    else:
        role = Role.SIGN
    return Part(role, text, start, end)


def _is_plain_name(text: str) -> bool:
    """Return whether a quoted identifier may be one; with other characters it may be a string."""
    return _PLAIN_NAME.fullmatch(text.strip('"`[]')) is not None


def _is_doubtful(string: Part, part: Part, token: Token) -> bool:
    """Return whether a token after a string literal says that the literal has ended elsewhere."""
    if part.text == "(" or token.token_type in (TokenType.NUMBER, TokenType.IDENTIFIER):
        return True
    return token.token_type is TokenType.VAR and part.text.upper() not in _UNITS


def _is_identifier(tokens: list[Token], at: int, dialect: str | None) -> bool:
    """Return whether a double-quoted name is an identifier for certain.

    Where the quotes were taken for those of a string, it is a value. SQLite even takes it for one if there
    is no such column.
    """
    before: Any = tokens[at - 1] if at else None
    after: Any = tokens[at + 1] if at + 1 < len(tokens) else None
    dot = TokenType.DOT
    if (before and before.token_type is dot) or (after and after.token_type is dot):
        return True
    word = before.text.upper() if before else ""
    if word == "FROM" and at > 1 and tokens[at - 2].token_type is TokenType.DISTINCT:
        return False  # IS DISTINCT FROM "value"
    if dialect == "sqlite":
        return word in _IDENTIFIER_PLACES
    return word not in _COMPARISONS


def _extends_value(parts: list[Part], part: Part, token: Token) -> bool:
    """Merge a token with the one directly before it if both are one value: 0x1F, 1_000, _utf8'x'."""
    if not parts or parts[-1].end != part.start:
        return False
    last = parts[-1]
    if last.role is Role.VALUE and part.role is not Role.SIGN:
        parts[-1] = last._replace(end=part.end)
        return True
    if last.role is Role.NAME and token.token_type in _STRINGS and _PREFIX.fullmatch(last.text):
        parts[-1] = Part(Role.VALUE, last.text, last.start, part.end)
        return True
    return False


def _with_placeholders(parts: list[Part]) -> list[Part]:
    """Return the tokens with each placeholder as one value: ``:name``, ``$1``, ``%s``, ``%(name)s``."""
    result: list[Part] = []
    at = 0
    while at < len(parts):
        length = _length_of_placeholder(parts, at)
        if length:
            result.append(Part(Role.VALUE, "", parts[at].start, parts[at + length - 1].end))
        else:
            result.append(parts[at])
        at += length or 1
    return result


def _length_of_placeholder(parts: list[Part], at: int) -> int:
    sign = parts[at].text
    if sign not in (":", "$", "%"):
        return 0
    after = parts[at + 1 : at + 5]
    together = [part for part, last in zip(after, parts[at:], strict=False) if part.start == last.end]
    if len(together) != len(after):
        after = after[: next(i for i, part in enumerate(after) if part.start != parts[at + i].end)]
    texts = [part.text for part in after]
    if sign == "%":
        if texts[:1] == ["s"]:
            return 2
        return 5 if len(texts) == 4 and texts[0] == "(" and texts[2:] == [")", "s"] else 0
    role = after[0].role if after else Role.SIGN
    return 2 if role in ((Role.WORD, Role.NAME) if sign == ":" else (Role.VALUE,)) else 0
