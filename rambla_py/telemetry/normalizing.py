"""Texts of errors without the values that they name."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["normalized"]

# In this order: a quoted value may hold an address, and an address holds numbers.
_REPLACED: Final = (
    (re.compile(r"""(?<!\w)(["'`])(?:\\.|(?!\1).)*\1(?!\w)""", re.DOTALL), "<value>"),
    (re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), "<address>"),
    (re.compile(r"\b0[xX][0-9a-fA-F]+\b"), "<address>"),
    (re.compile(r"\[?(?:[0-9a-fA-F]{0,4}:){2,}[0-9a-fA-F]{0,4}\]?(?::\d+)?"), "<address>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\b(?=[a-fA-F-]*\d)[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]+)*\b"), "<number>"),
    (re.compile(r"\d+(?:[.,:_]\d+)*"), "<number>"),
)


def normalized(message: str) -> str:
    """Return a message with numbers, addresses and quoted values replaced.

    >>> normalized("row 17 of 'orders' failed at 0x7f3c (mail to ann@example.com)")
    'row <number> of <value> failed at <address> (mail to <address>)'
    """
    for pattern, instead in _REPLACED:
        message = pattern.sub(instead, message)
    return message
