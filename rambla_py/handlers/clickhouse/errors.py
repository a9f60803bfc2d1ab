"""ClickHouse's errors mapped to those of rambla_py."""

from __future__ import annotations

import re

from rambla_py.errors import (
    AccessError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.handlers._http.exchange import Answer
from rambla_py.handlers._http.status_codes import excerpt, refusal

__all__ = ["BadRowError", "server_error"]

_CODE = re.compile(r"Code:\s*(\d+)")
_NAME = re.compile(r"\(([A-Z][A-Z0-9_]{3,60})\)")
_ROW = re.compile(r"\(at row (\d+)\)")
_COLUMN = re.compile(
    r"(?:while read(?:ing)? the value of key|Unknown field found while parsing \w+ format:) "
    r"([A-Za-z_][\w.]{0,60})"
)

# Wrong or missing credentials; what a user may do with one table (497) says nothing about the next message.
_ACCESS = frozenset({192, 193, 194, 195, 516})
# One row does not fit: a string that is no number, date or UUID, null, unknown fields, a constraint.
_ROWS = frozenset(
    {6, 25, 26, 27, 28, 32, 33, 34, 38, 41, 53, 69, 70, 72, 117, 130, 131, 190, 246, 321, 349}
    | {376, 407, 441, 467, 469, 632, 636, 675, 676, 691}
)
# No such table, column, database, setting or right; a statement that is not understood.
_NEVER = frozenset({8, 10, 16, 20, 47, 48, 60, 62, 73, 81, 115, 164, 291, 497})
# The server cannot write now: quota, too many queries, no space, no Keeper, overload.
_UNAVAILABLE = frozenset({201, 202, 225, 243, 279, 745, 999})
# The same of one table: a read-only replica, too many parts, too few replicas.
_TABLE_UNAVAILABLE = frozenset({242, 252, 285})
_MEMORY, _UNKNOWN_STATUS = 241, 319
# Texts that name tables, users and settings, and never quote a row.
_QUOTABLE = (
    _ACCESS | _UNAVAILABLE | _TABLE_UNAVAILABLE | {60, 81, 115, 164, 291, 497, _MEMORY, _UNKNOWN_STATUS}
)
_TOO_LARGE_STATUS = 413


class BadRowError(PermanentError):
    """At least one row cannot be written; ``row`` counts from 0, None if the server does not say which."""

    def __init__(self, text: str, row: int | None) -> None:
        self.row = row
        super().__init__(text)


def server_error(answer: Answer, where: str, *, table: str = "") -> DeliveryError | None:
    """Return the error of an answer, None for a success.

    The server quotes rows in its texts, and not only those of this message: the error names code, column and
    row instead, and repeats the text only for codes whose text holds no data; ``detail`` has it always.

    >>> text = b"Code: 27, e.displayText() = DB::Exception: Cannot parse input: (at row 2)"
    >>> server_error(Answer(500, {}, text, True), "here")
    BadRowError('here: code 27, row 2')
    """
    text = answer.body.decode(errors="replace")
    code = _code(answer, text)
    if code is None:
        error = refusal(answer, where)
        if error is not None and answer.status == _TOO_LARGE_STATUS:
            return BadRowError(str(error), None).with_detail(error.detail)
        return error
    row = _ROW.search(text)
    said = f"{where}: {excerpt(answer.body)}" if code in _QUOTABLE else f"{where}: {_summary(code, text)}"
    if code in _ROWS:
        error = BadRowError(said, int(row[1]) - 1 if row is not None else None)
    else:
        error = _by_code(code, said, text, scope=f"{where} {table}")
    return error.with_detail(excerpt(answer.body))


def _by_code(code: int, said: str, text: str, *, scope: str) -> DeliveryError:
    if code in _ACCESS:
        return AccessError(said)
    if code in _NEVER:
        return PermanentError(said)
    if code in _TABLE_UNAVAILABLE:
        return UnavailableError(said, scope=scope)
    if code in _UNAVAILABLE or (code == _MEMORY and "(total)" in text):
        return UnavailableError(said)
    if code == _UNKNOWN_STATUS:
        return UnknownOutcomeError(said, connection_lost=False)
    return RejectedError(said)


def _summary(code: int, text: str) -> str:
    """Return code, name, column and row of an error, without the data that its text quotes."""
    # The server's own words come after what it quotes: the last match is its own.
    name, column, row = (_last(pattern, text) for pattern in (_NAME, _COLUMN, _ROW))
    parts = (f"code {code}{name and ' '}{name}", column and f"column {column}", row and f"row {row}")
    return ", ".join(filter(None, parts))


def _last(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.findall(text)
    return found[-1] if found else ""


def _code(answer: Answer, text: str) -> int | None:
    """Return the server's error code: it may also fail amid an answer that began with 200."""
    found = answer.headers.get("x-clickhouse-exception-code", "")
    if found.isdigit():
        return int(found)
    if answer.status == 200 and "DB::Exception" not in text:
        return None
    code = _CODE.search(text)
    return int(code[1]) if code is not None else None
