"""This module makes the headers of a NATS message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rambla_py.errors import PermanentError
from rambla_py.handlers._headers import text_of
from rambla_py.wire import wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "ID_HEADER", "encoded_size", "header_text", "headers_of"]

EVENT_PREFIX: Final = "ce-"
ID_HEADER = "Nats-Msg-Id"
_STREAM_HEADER = "Nats-Expected-Stream"
_FRAME = len("NATS/1.0\r\n") + len("\r\n")
_LINE = len(": \r\n")


def headers_of(delivery: Delivery, stream: str | None) -> dict[str, str]:
    """Return the message's headers, its id, and the stream that is expected to take it.

    Raises ``PermanentError`` for what a header cannot hold.
    """
    headers = {ID_HEADER: header_text(ID_HEADER, delivery.id)}
    if stream is not None:
        headers[_STREAM_HEADER] = header_text(_STREAM_HEADER, stream)
    for name, value in wire_headers(delivery, EVENT_PREFIX, content_type="content-type").items():
        headers[name] = header_text(name, value)
    return headers


def header_text(name: str, value: Any) -> str:
    """Return a header's value as one line of text.

    >>> header_text("tries", 3)
    '3'
    """
    text = text_of(name, value)
    if "\r" in text or "\n" in text:
        raise PermanentError(f"header {name!r}: a NATS header holds one line, got {text[:40]!r}")
    return text


def encoded_size(headers: dict[str, str]) -> int:
    r"""Return how many bytes the headers take, which count for the server's ``max_payload``.

    >>> encoded_size({"a": "b"}) == len(b"NATS/1.0\r\na: b\r\n\r\n")
    True
    """
    return _FRAME + sum(len(name.encode()) + len(text.encode()) + _LINE for name, text in headers.items())
