"""Values of the application in the errors of databases and validators."""

from __future__ import annotations

import re
from typing import Final

from rambla_py._internal.redaction import MASK

__all__ = ["mask_error_values"]

# Strings without which the pattern cannot match; what is before the value, and the value. A value whose end
# is missing, because the error was cut, extends to the end of the line or the string. A pattern that failed
# there would be tried again from each further start, in quadratic time.
_PATTERNS: Final = tuple(
    (hints, re.compile(pattern, re.DOTALL))
    for *hints, pattern in (
        # SQLAlchemy
        ("[SQL: ", r"(\[SQL: )(?:.*?)(?=\]\s*(?:\n|\Z)|\Z)"),
        ("[parameters: ", r"(\[parameters: )(?:.*?)(?=\]\s*(?:\n\(Background|\Z)|\Z)"),
        # PostgreSQL
        ("Key (", ")=(", r"(?>(Key \([^\n]{0,200}?\)=\())(?:[^\n]*(?=\) )|[^\n]*)"),
        ("Failing row", r"(Failing row contains \()(?:[^\n]*(?=\))|[^\n]*)"),
        ("invalid ", r"(invalid (?:input|value|byte)[^\n:]{0,200}: )(?:[^\n]*)"),
        (" is out of range", r"(value )\"(?:[^\n]*\"(?= is out of range)|[^\n]*)"),
        ("LINE ", r"(LINE \d+: )(?:[^\n]*)"),
        ("CONTEXT:", r"(CONTEXT: +)(?:[^\n]*)"),
        ("at or near", r"(at or near )\"(?:[^\n]*\"|[^\n]*)"),
        ("unterminated quoted", r"(unterminated quoted [a-z]+ at or near )(?:.*)"),
        # MySQL, MariaDB
        ("uplicate entry", "' for key", r"([Dd]uplicate entry ')(?:.*(?=' for key)|.*)"),
        ("ncorrect ", "' for ", r"([Ii]ncorrect [\w ]{0,40}value: ')(?:.*(?=' for (?:column|function))|.*)"),
        ("Truncated incorrect", r"(Truncated incorrect [\w ]{0,40}value: ')(?:.*(?=')|.*)"),
        ("near '", "' at line", r"(near ')(?:.*(?=' at line)|.*)"),
        # SQLite
        ('near "', "syntax error", r"(near \")(?:.*(?=\": syntax error)|.*)"),
        ("nrecognized token", r"([Uu]nrecognized token: )(?:.*)"),
        # ClickHouse quotes the statement
        ("failed at position", r"(failed at position \d+)(?:.*)"),
        ("hile processing", r"([Ww]hile processing )(?:.*)"),
        ("In scope", r"(In scope )(?:.*)"),
        ("annot parse", r"([Cc]annot parse [\w ]{1,40})(?:.*)"),
        # pydantic
        ("input_value=", r"(input_value=)(?:.*?)(?=, input_type=|\Z)"),
    )
)


def mask_error_values(text: str) -> str:
    r"""Return an error message without the values that databases and validators quote.

    >>> mask_error_values("DETAIL:  Key (email)=(bob@example.com) already exists.")
    'DETAIL:  Key (email)=(***) already exists.'
    >>> mask_error_values("(1062, Duplicate entry 'x' for key 'users.email')")
    "(1062, Duplicate entry '***' for key 'users.email')"
    """
    for hints, pattern in _PATTERNS:
        if all(hint in text for hint in hints):
            text = pattern.sub(rf"\g<1>{MASK}", text)
    return text
