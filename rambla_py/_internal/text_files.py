"""Text of files that other programs wrote."""

from __future__ import annotations

import codecs

__all__ = ["decoded", "without_line_break"]


def decoded(data: bytes) -> str:
    r"""Return UTF-8 as text, without the byte order mark that some editors put first.

    Raises ``UnicodeDecodeError``.

    >>> decoded(b"\xef\xbb\xbfretries = 3")
    'retries = 3'
    """
    return data.removeprefix(codecs.BOM_UTF8).decode("utf-8")


def without_line_break(text: str) -> str:
    r"""Return text without the line break at its end, which editors and orchestrators add.

    >>> without_line_break("hunter2\r\n"), without_line_break("two\n\n")
    ('hunter2', 'two\n')
    """
    return text.removesuffix("\n").removesuffix("\r")
