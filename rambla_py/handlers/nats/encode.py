"""Subjects and headers of NATS messages."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final

from rambla_py.errors import PermanentError
from rambla_py.handlers._encoding import checked_utf8
from rambla_py.handlers._headers import text_of
from rambla_py.serialization.wire_format import wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "ID_HEADER", "checked_subject", "encoded_size", "header_text", "headers_of"]

EVENT_PREFIX: Final = "ce-"
ID_HEADER = "Nats-Msg-Id"
_STREAM_HEADER = "Nats-Expected-Stream"
_OURS = "Nats-"
_FRAME = len("NATS/1.0\r\n") + len("\r\n")
_LINE = len(": \r\n")
_NAME = re.compile(r"[!-9;-~]+")
"""What nats-py accepts as a header's name: printable ASCII without a colon."""


def headers_of(delivery: Delivery, stream: str | None) -> dict[str, str]:
    """Return the message's headers, its id, and the stream that is expected to store it.

    Raises ``PermanentError`` for what a header cannot hold.
    """
    headers = {ID_HEADER: header_text(ID_HEADER, delivery.id)}
    if stream is not None:
        headers[_STREAM_HEADER] = header_text(_STREAM_HEADER, stream)
    for name, value in wire_headers(delivery, EVENT_PREFIX, content_type="content-type").items():
        headers[_checked_name(name)] = header_text(name, value)
    return headers


@functools.lru_cache(maxsize=256)
def checked_subject(subject: str) -> None:
    """Raise ``PermanentError`` for a subject that is not UTF-8."""
    checked_utf8(subject, "subject")


@functools.lru_cache(maxsize=1024)
def _checked_name(name: str) -> str:
    """Return a header's name; nats-py would drop an empty one, and strip whitespace."""
    if not _NAME.fullmatch(name):
        raise PermanentError(
            f"header {name!r}: a NATS header's name is printable ASCII, without spaces and colons"
        )
    if name.lower().startswith(_OURS.lower()) and not name.startswith(_OURS):
        raise PermanentError(f"header {name!r}: NATS reads these names in one case only; write {_OURS}...")
    return name


def header_text(name: str, value: Any) -> str:
    """Return a header's value as one line without surrounding whitespace, which nats-py would strip.

    >>> header_text("tries", 3)
    '3'
    """
    text = text_of(name, value)
    if "\r" in text or "\n" in text:
        raise PermanentError(f"header {name!r}: a NATS header holds one line")
    if text != text.strip():
        raise PermanentError(f"header {name!r}: a NATS header cannot begin or end with whitespace")
    return text


def encoded_size(headers: dict[str, str]) -> int:
    r"""Return how many bytes the headers take, which count towards the server's ``max_payload``.

    >>> encoded_size({"a": "b"}) == len(b"NATS/1.0\r\na: b\r\n\r\n")
    True
    """
    return _FRAME + sum(len(name.encode()) + len(text.encode()) + _LINE for name, text in headers.items())
