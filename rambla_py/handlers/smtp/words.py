"""This module writes header fields: folded, encoded where they are not ASCII, and never more than one."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from urllib.parse import quote

__all__ = ["address_field", "encoded_words", "field", "message_id", "refuse_controls"]

_LINE = 78
_MOST_IN_LINE = 998
_WORD_BYTES = 45
"""So many bytes are 60 characters of base64: with its frame a word of 72, where 75 are allowed."""

_NAME = re.compile(r"[!-9;-~]{1,76}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_TOKEN = re.compile(r"[ \t]*[^ \t]+")
_SAFE_IN_ID = "!#$&'*+-/=?^_`{|}~."
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+)*\Z")
_WHOLE_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]+@[A-Za-z0-9_.\-]+\Z")


def refuse_controls(text: str) -> None:
    r"""Raise ``ValueError`` for a text that could end a line, and so begin another header.

    >>> refuse_controls("Hello\r\nBcc: everyone@example.com")
    Traceback (most recent call last):
    ValueError: a control character ('\r') may not stand in a header or an address
    """
    found = _CONTROL.search(text)
    if found:
        raise ValueError(f"a control character ({found[0]!r}) may not stand in a header or an address")


def field(name: str, value: str) -> str:
    r"""Return one header field, without the end of its last line; raises ``ValueError``.

    Text that is not ASCII becomes encoded words; long lines are folded where there is a blank.

    >>> field("Subject", "Grüße")
    'Subject: =?utf-8?B?R3LDvMOfZQ==?='
    """
    if not _NAME.match(name):
        raise ValueError(f"{name[:80]!r} is not the name of a header")
    refuse_controls(value)
    value = value.strip()
    if not value.isascii() or "=?" in value:
        return f"{name}: {encoded_words(value)}"
    line = f"{name}: {value}"
    return line if len(line) <= _LINE else _folded(name, value)


def address_field(name: str, mailboxes: Sequence[str]) -> str:
    """Return a header field of mailboxes, as ``Mailbox.header`` gives them, one a line where they are many.

    >>> address_field("To", ["a@example.com", "b@example.com"])
    'To: a@example.com, b@example.com'
    """
    line = f"{name}: {', '.join(mailboxes)}"
    return line if len(line) <= _LINE else f"{name}: " + ",\r\n ".join(mailboxes)


def encoded_words(text: str) -> str:
    """Return text as encoded words of RFC 2047, one a line.

    >>> encoded_words("é")
    '=?utf-8?B?w6k=?='
    """
    return "\r\n ".join(f"=?utf-8?B?{b64encode(piece).decode()}?=" for piece in _pieces(text))


def message_id(text: str, domain: str) -> str:
    """Return a Message-ID made of a message's id; one that already is ``left@right`` stays what it is.

    Characters that may not stand in one are written as ``%XX``: two ids never become one.

    >>> message_id("order-42", "example.com"), message_id("a b", "example.com"), message_id("x@y.z", "h")
    ('<order-42@example.com>', '<a%20b@example.com>', '<x@y.z>')
    """
    if _WHOLE_ID.match(text) and _DOT_ATOM.match(text.partition("@")[0]):
        return f"<{text}>"
    left = quote(text, safe=_SAFE_IN_ID)
    if not _DOT_ATOM.match(left):
        left = left.replace(".", "%2E")
    if len(left) > _MOST_IN_LINE - 270:
        raise ValueError(f"an id of {len(text)} characters is too long for a Message-ID")
    return f"<{left}@{domain}>"


def _folded(name: str, value: str) -> str:
    lines, line = [], f"{name}:"
    for token in _TOKEN.findall(f" {value}"):
        if len(line) + len(token) > _LINE and line != f"{name}:":
            lines.append(line)
            line = ""
        line += token
    lines.append(line)
    if any(len(line) > _MOST_IN_LINE for line in lines):
        raise ValueError(f"a word of more than {_MOST_IN_LINE} characters does not fit into a header")
    return "\r\n".join(lines)


def _pieces(text: str) -> list[bytes]:
    pieces, piece = [], b""
    for character in text:
        coded = character.encode()
        if len(piece) + len(coded) > _WORD_BYTES:
            pieces.append(piece)
            piece = b""
        piece += coded
    return [*pieces, piece]
