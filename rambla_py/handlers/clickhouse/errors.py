"""This module maps what a ClickHouse server says to the errors of rambla_py."""

from __future__ import annotations

import re

from rambla_py.errors import AccessError, DeliveryError, PermanentError, RejectedError
from rambla_py.handlers._http.answers import excerpt, refusal
from rambla_py.handlers._http.client import Answer

__all__ = ["BadRowError", "server_error"]

_CODE = re.compile(r"Code:\s*(\d+)")
_ROW = re.compile(r"\(at row (\d+)\)")

# Wrong or missing credentials; what a user may do with one table (497) says nothing of the next message.
_ACCESS = frozenset({192, 193, 194, 195, 516})
# One row does not fit: text that is no number, no date, no UUID ..., null, unknown fields, a constraint.
_ROWS = frozenset(
    {6, 25, 26, 27, 28, 32, 33, 34, 38, 41, 53, 69, 70, 72, 117, 130, 131, 190, 246, 321, 349}
    | {376, 407, 441, 467, 469, 632, 636, 675, 676, 691}
)
# No such table, column, database, setting, right; a statement that is not understood.
_NEVER = frozenset({8, 10, 16, 20, 47, 48, 60, 62, 73, 81, 115, 164, 291, 497})
_TOO_LARGE_STATUS = 413


class BadRowError(PermanentError):
    """At least one row cannot be taken; ``row`` counts from 0, None when the server does not say which."""

    def __init__(self, text: str, row: int | None) -> None:
        self.row = row
        super().__init__(text)


def server_error(answer: Answer, where: str) -> DeliveryError | None:
    """Return the error that an answer stands for; None for a success.

    >>> text = b"Code: 27, e.displayText() = DB::Exception: Cannot parse input: (at row 2)"
    >>> server_error(Answer(500, {}, text, True), "here").row
    1
    """
    text = answer.body.decode(errors="replace")
    code = _code(answer, text)
    if code is None:
        error = refusal(answer, where)
        too_large = answer.status == _TOO_LARGE_STATUS
        return BadRowError(str(error), None) if too_large else error
    told = f"{where}: {excerpt(answer.body)}"
    if code in _ACCESS:
        return AccessError(told)
    if code in _ROWS:
        row = _ROW.search(text)
        return BadRowError(told, int(row[1]) - 1 if row is not None else None)
    return PermanentError(told) if code in _NEVER else RejectedError(told)


def _code(answer: Answer, text: str) -> int | None:
    """Return the server's error code: it may also fail in the midst of an answer that began with 200."""
    found = answer.headers.get("x-clickhouse-exception-code", "")
    if found.isdigit():
        return int(found)
    if answer.status == 200 and "DB::Exception" not in text:
        return None
    code = _CODE.search(text)
    return int(code[1]) if code is not None else None
