"""Request headers, checked so that no value can break out of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from rambla_py.errors import PermanentError
from rambla_py.handlers._headers import text_of

__all__ = ["checked_header", "id_text", "message_headers"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ASCII = re.compile(r"[\t\x20-\x7e]*")
_LATIN1 = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
_OBSOLETE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
# These decide where a request ends, or which server reads it.
_RESERVED = frozenset(
    {"host", "content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "te"}
    | {"trailer", "upgrade", "expect", "proxy-authorization", "proxy-connection"}
)


def message_headers(headers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a message's headers as strings; raises ``PermanentError`` that names the header."""
    for name, value in headers.items():
        if name.lower() in _RESERVED:
            raise PermanentError(f"header {name!r} belongs to the connection and cannot be set")
        try:
            yield _checked_name(name), _line(name, value).strip(" \t")
        except ValueError as error:
            raise PermanentError(str(error)) from None


def checked_header(name: str, value: str) -> tuple[str, str]:
    """Return name and value of a configured header, in ASCII; raises ``ValueError`` without the value."""
    found = _checked_name(name)
    if not _ASCII.fullmatch(value):
        raise ValueError(f"header {name!r}: expected one line of ASCII text as its value")
    return found, value.strip()


def id_text(message_id: str) -> str:
    """Return an id for a header: ``%`` and what is not visible ASCII is percent-encoded.

    Raises ``PermanentError`` for a lone surrogate.

    >>> id_text("order-42"), id_text("Größe 4")
    ('order-42', 'Gr%C3%B6%C3%9Fe%204')
    """
    try:
        return quote(message_id, safe=_VISIBLE)
    except UnicodeError:
        raise PermanentError("the id contains a lone surrogate, which UTF-8 cannot encode") from None


def _line(name: str, value: Any) -> str:
    """Return a value as characters of Latin-1, one for each byte that is sent."""
    if isinstance(value, bytes):
        if not _OBSOLETE.fullmatch(value):
            raise ValueError(f"header {name!r}: expected one line without control characters")
        return value.decode("latin-1")
    text = text_of(name, value)
    if not _LATIN1.fullmatch(text):
        raise ValueError(
            f"header {name!r}: expected one line of Latin-1 text without control characters; "
            "give other text in the encoding that the server reads, as bytes"
        )
    return text


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"header {name!r}: expected letters, digits and hyphens as its name")
    return name.lower()
