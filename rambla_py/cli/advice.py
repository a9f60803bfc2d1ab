"""Hints for the errors that a ping may return."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Final

from rambla_py.errors import AccessError, StartError

__all__ = ["advice"]

_PLACE = re.compile(r"(?:(?<=://)|(?<![\w/@.-]))([A-Za-z0-9_.-]+|\[[0-9a-fA-F:]+\]):(\d{1,5})(?!\w)")
_CERTIFICATE: Final = re.compile(r"certificate|\bTLS\b|\bSSL\b", re.IGNORECASE)
_UNKNOWN_HOST: Final = re.compile(
    r"name or service not known|name resolution|nodename nor servname", re.IGNORECASE
)
_MISSING: Final = re.compile(
    r"(?:does not|doesn't) exist|unknown database|vhost .* not found|DB index is out of range", re.IGNORECASE
)
_LATE: Final = re.compile(r"did not answer|no answer|timed? ?out", re.IGNORECASE)


def advice(error: BaseException | None, text: str, *, connection: str) -> str:
    """Return what to look at; ``text`` is the error without secrets.

    ``connection`` is the dotted name of the connection's table.

    >>> advice(ConnectionRefusedError(), "no way to localhost:6379", connection="redis.connections.a")
    'is the server running at localhost:6379? Its address is in [redis.connections.a]'
    """
    causes = list(_causes(error))
    refused = _has(causes, AccessError) or text.startswith(AccessError.__name__)
    place = _place(text)
    if _has(causes, StartError):
        return "the server itself was not asked: the handler needs this first"
    if _has(causes, ConnectionRefusedError) or "connection refused" in text.lower():
        return f"is the server running{place}? Its address is in [{connection}]"
    if _has(causes, socket.gaierror) or _UNKNOWN_HOST.search(text):
        return f"the host is unknown: correct its name in [{connection}]"
    if refused and _CERTIFICATE.search(text):
        return f"check the tls settings of [{connection}]"
    if refused and _MISSING.search(text):
        return f"create it on the server, or correct its name in [{connection}]"
    if refused:
        return f"check the user name and the password in [{connection}], and the user's rights on the server"
    if _has(causes, PermissionError):
        return "check that this user may write there"
    if _has(causes, TimeoutError) or _LATE.search(text):
        return f"check the address and firewalls{place}; --timeout waits longer"
    return f"check [{connection}]"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _has(causes: list[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(cause, kind) for cause in causes)


def _place(text: str) -> str:
    found = _PLACE.search(text)
    return f" at {found[0]}" if found else ""
