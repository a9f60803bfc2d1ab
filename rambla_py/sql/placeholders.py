"""Placeholders of SQL text, found with the lexical rules of its database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

__all__ = ["Parsed", "Syntax", "Token", "parse", "tokens"]


class Syntax(NamedTuple):
    """Lexical rules in which databases differ; the defaults are those of standard SQL.

    ``question_operators``: a ``?`` may also be an operator. ``colon_casts``: ``a::int`` is a cast.
    """

    backslash_escapes: bool = False
    hash_comments: bool = False
    nested_comments: bool = False
    dash_needs_space: bool = False
    bracket_names: bool = False
    dollar_quotes: bool = False
    escape_strings: bool = False
    question_operators: bool = False
    colon_casts: bool = False


STANDARD = Syntax()

Kind = Literal["quoted", "comment", "positional", "named", "escape", "cast", "word", "other"]


class Token(NamedTuple):
    """A piece of SQL: its kind, and its text."""

    kind: Kind
    text: str


class Parsed(NamedTuple):
    """What ``parse`` finds: the statement for SQLAlchemy's ``text``, its placeholders, what it does.

    ``names`` are those of ``:name`` in order, ``positional`` is the number of ``?``. ``word`` is the first
    word in lower case; ``writes`` whether the statement may change anything; ``returning`` whether it has a
    RETURNING. ``cast`` is the first placeholder that a ``::`` follows.
    """

    text: str
    names: tuple[str, ...]
    positional: int
    word: str
    writes: bool
    returning: bool
    cast: str


_WRITES = frozenset({"insert", "update", "delete", "replace", "merge", "truncate", "into"})
_READS = frozenset({"values", "table", "show", "describe", "desc", "pragma", "set", "use", ""})
_MAY_READ = frozenset({"select", "with", "explain"})
_COMMENT_EDGE = re.compile(r"/\*|\*/")


@lru_cache(maxsize=32)
def _pattern(syntax: Syntax) -> re.Pattern[str]:
    body = r"(?:[^'\\]|''|\\.)*" if syntax.backslash_escapes else r"(?:[^']|'')*"
    double = r'(?:[^"\\]|""|\\.)*' if syntax.backslash_escapes else r'(?:[^"]|"")*'
    quoted = [rf"'{body}'", rf'"{double}"', r"`(?:[^`]|``)*`"]
    if syntax.escape_strings:
        quoted.insert(0, r"(?<!\w)[eE]'(?:[^'\\]|''|\\.)*'")
    if syntax.bracket_names:
        quoted.append(r"\[[^\]]*\]")
    if syntax.dollar_quotes:
        quoted.append(r"(?<!\w)(?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)")
    dashes = r"--(?=\s|\Z)[^\n]*" if syntax.dash_needs_space else r"--[^\n]*"
    comments = [dashes, r"/\*" if syntax.nested_comments else r"/\*.*?\*/"]
    if syntax.hash_comments:
        comments.append(r"\#[^\n]*")
    return re.compile(
        rf"""(?P<quoted>{"|".join(quoted)})
        |(?P<comment>{"|".join(comments)})
        |(?P<escape>\\:)
        |(?P<cast>::)
        |(?P<named>(?<![:\w]):[^\W\d]\w*)
        |(?P<positional>\?)
        |(?P<word>[^\W\d]\w*)
        |(?P<other>.)""",
        re.DOTALL | re.VERBOSE,
    )


def tokens(sql: str, syntax: Syntax = STANDARD) -> Iterator[Token]:
    """Yield the pieces of a statement; together they are its text.

    >>> [token.text for token in tokens("a = '?'") if token.kind == "quoted"]
    ["'?'"]
    """
    pattern, at = _pattern(syntax), 0
    while at < len(sql):
        found = pattern.match(sql, at)
        assert found is not None, "the last alternative matches any character"
        kind = "quoted" if found.lastgroup == "tag" else found.lastgroup
        end = found.end()
        if kind == "comment" and found[0] == "/*":
            end = _end_of_comment(sql, end)
        yield Token(kind, sql[at:end])  # type: ignore[arg-type]  # the groups are those of Kind
        at = end


def _end_of_comment(sql: str, at: int) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(sql)


@lru_cache(maxsize=512)
def parse(sql: str, syntax: Syntax = STANDARD, *, positional: bool = False) -> Parsed:
    r"""Read a statement; with ``positional`` each ``?`` becomes ``:p0``, ``:p1`` and so on.

    Colons that belong to no placeholder are escaped, as SQLAlchemy's ``text`` asks for.

    >>> parse("select '12:30', ? where a = ?", positional=True).text
    "select '12\\:30', :p0 where a = :p1"
    >>> parse("select :a::int").names
    ('a',)
    """
    parts: list[str] = []
    names: dict[str, None] = {}
    words: list[str] = []
    count, cast, before = 0, "", ""
    for kind, text in tokens(sql, syntax):
        if kind == "named":
            names[text[1:]] = None
            parts.append(text)
        elif kind == "positional":
            parts.append(f":p{count}" if positional else text)
            count += 1
        elif kind == "escape":
            parts.append(text)
        else:
            parts.append(text.replace(":", "\\:"))
            if kind == "word":
                words.append(text.lower())
            elif kind == "cast" and before:
                cast = cast or before
        before = text if kind in ("named", "positional") else ""
    word = words[0] if words else ""
    return Parsed("".join(parts), tuple(names), count, word, _may_write(words), "returning" in words, cast)


def _may_write(words: list[str]) -> bool:
    """Return whether a statement may change anything, by its first word; after WITH or EXPLAIN by any.

    A statement that is not known to only read counts as a write, as CALL does: it is not repeated when it
    may have been applied.
    """
    word = words[0] if words else ""
    if word in _MAY_READ:
        return not _WRITES.isdisjoint(words)
    return word not in _READS
