"""Names and values of header fields, with defence against header injection."""

from __future__ import annotations

import re
from urllib.parse import quote

from rambla_py.handlers.smtp.policy import text_field

__all__ = ["field", "message_id", "refuse_controls"]

_MOST_IN_LINE = 998

_NAME = re.compile(r"[!-9;-~]{1,76}\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SAFE_IN_ID = "!#$&'*+-/=?^_`{|}~."
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-]+)*\Z")
_WHOLE_ID = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]+@[A-Za-z0-9_.\-]+\Z")


def refuse_controls(text: str) -> None:
    r"""Raise ``ValueError`` for a string that could end a line and start another header, or is not UTF-8.

    >>> refuse_controls("Hello\r\nBcc: everyone@example.com")
    Traceback (most recent call last):
    ValueError: a control character ('\r') is not allowed in a header or an address
    """
    found = _CONTROL.search(text)
    if found:
        raise ValueError(f"a control character ({found[0]!r}) is not allowed in a header or an address")
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError("a lone surrogate, which UTF-8 cannot hold")


def field(name: str, value: str) -> str:
    r"""Return one header field, without its last line break; raises ``ValueError``.

    Text that is not ASCII becomes encoded words; long lines are folded at spaces.

    >>> field("Subject", "Grüße")
    'Subject: =?utf-8?b?R3LDvMOfZQ==?='
    """
    if not _NAME.match(name):
        raise ValueError("not a valid header name")
    refuse_controls(value)
    return text_field(name, value.strip())


def message_id(text: str, domain: str) -> str:
    """Return the Message-ID for a message's id; an id of the form ``left@right`` is used unchanged.

    Characters that are not allowed in one are written as ``%XX``, so that two ids never become one.

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
