"""This module makes the headers of a request, and lets nothing through that could break out of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from rambla_py.errors import PermanentError

__all__ = ["checked_header", "id_text", "message_headers"]

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e]*")
_VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
# What decides where a request ends, or which server reads it, is the client's business alone.
_OURS = frozenset(
    {"host", "content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "te"}
    | {"trailer", "upgrade", "expect", "proxy-authorization", "proxy-connection"}
)


def message_headers(headers: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield a message's headers as texts; raises ``PermanentError`` that names the header."""
    for name, value in headers.items():
        if name.lower() in _OURS:
            raise PermanentError(f"header {name!r} belongs to the connection and cannot be given")
        if value is None:
            continue
        try:
            yield checked_header(name, _text(value))
        except ValueError as error:
            raise PermanentError(str(error)) from None


def checked_header(name: str, value: str) -> tuple[str, str]:
    """Return name and value; raises ``ValueError`` for what no header can hold. The value is not quoted."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"header {name!r}: expected letters, digits and hyphens as its name")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"header {name!r}: expected one line of ASCII text as its value")
    return name.lower(), value.strip()


def id_text(message_id: str) -> str:
    """Return an id as a header holds it: what is not visible ASCII is percent-encoded, and ``%`` with it.

    >>> id_text("order-42"), id_text("Größe 4")
    ('order-42', 'Gr%C3%B6%C3%9Fe%204')
    """
    return quote(message_id, safe=_VISIBLE)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("latin-1")
    raise ValueError(f"expected a text or a number as its value, got {type(value).__name__}")
