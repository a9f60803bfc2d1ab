"""This module reads SQL text as far as places for values go: what is quoted or a comment holds none."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["Token", "first_word", "is_write", "named_places", "tokens"]

_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|(?P<tag>\$\w*\$).*?(?P=tag))
    |(?P<comment>--[^\n]*|/\*.*?\*/)
    |(?P<place>\?)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
_WRITES = frozenset({"insert", "update", "delete", "replace", "merge", "truncate"})
_READS = frozenset(
    {"select", "values", "table", "show", "explain", "describe", "desc", "pragma", "set", "use", ""}
)

What = Literal["quoted", "comment", "place", "word", "other"]


class Token(NamedTuple):
    """A piece of SQL: what it is, and its text."""

    what: What
    text: str


def tokens(sql: str) -> Iterator[Token]:
    """Yield the pieces of a statement, all of it.

    >>> [token.text for token in tokens("a = '?'") if token.what == "quoted"]
    ["'?'"]
    """
    for found in _TOKEN.finditer(sql):
        what = "quoted" if found.lastgroup == "tag" else found.lastgroup
        yield Token(what, found[0])  # type: ignore[arg-type]  # the groups are those of What


def named_places(sql: str, *, positional: bool) -> str:
    r"""Return a statement as SQLAlchemy's ``text`` takes it: ``?`` as ``:p0`` ..., quoted colons escaped.

    Where ``positional`` is false a question mark stays what it is: an operator of PostgreSQL's JSON.

    >>> named_places("select '12:30', ? where a = ?", positional=True)
    "select '12\\:30', :p0 where a = :p1"
    """
    parts: list[str] = []
    count = 0
    for token in tokens(sql):
        if token.what == "place" and positional:
            parts.append(f":p{count}")
            count += 1
        elif token.what in ("quoted", "comment"):
            parts.append(token.text.replace(":", "\\:"))
        else:
            parts.append(token.text)
    return "".join(parts)


def first_word(sql: str) -> str:
    """Return the statement's first word, in small letters.

    >>> first_word("/* why */ SELECT 1")
    'select'
    """
    return next((token.text.lower() for token in tokens(sql) if token.what == "word"), "")


def is_write(sql: str) -> bool:
    """Say whether a statement may change rows or tables: by its first word, with WITH by any.

    What is not known to read counts as a write, as CALL does: it is not tried again when nobody knows whether
    it was applied.

    >>> is_write("select 'delete'"), is_write("with old as (delete from t returning *) select * from old")
    (False, True)
    """
    first = first_word(sql)
    if first != "with":
        return first not in _READS
    return any(token.what == "word" and token.text.lower() in _WRITES for token in tokens(sql))
