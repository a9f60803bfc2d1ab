"""This module maps what a Redis server or its driver reports to the errors of rambla_py."""

from __future__ import annotations

import ssl

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
)

__all__ = ["connect_error", "is_about_certificates", "reply_error"]

# The server refuses everything for now, or everything that writes: a new connection may reach another one.
_ELSEWHERE = frozenset({"READONLY", "LOADING", "MASTERDOWN"})
_ACCESS = frozenset({"NOAUTH", "WRONGPASS"})
_FOR_NOW = frozenset(
    {"OOM", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "MISCONF", "UNKILLABLE", "EXECABORT"}
)


def reply_error(text: str) -> DeliveryError:
    """Return the error that an error reply stands for; its first word is the code.

    NOPERM is permanent rather than an ``AccessError``: access is granted by command and key, so the next
    message may well pass.

    >>> reply_error("OOM command not allowed when used memory > 'maxmemory'.").retryable
    True
    >>> type(reply_error("WRONGTYPE Operation against a key holding the wrong kind of value")).__name__
    'PermanentError'
    """
    code = text.split(" ", 1)[0]
    if code in _FOR_NOW:
        return RejectedError(text)
    if code in _ELSEWHERE or text.startswith("ERR max number of clients"):
        return ConnectionLostError(text)
    if code in _ACCESS:
        return AccessError(text)
    return PermanentError(text)


def connect_error(error: OSError, where: str, *, timeout_s: float) -> ConnectionLostError:
    """Return the error that a failed connect stands for; ``where`` names the server without credentials."""
    if isinstance(error, TimeoutError):
        return ConnectionLostError(f"{where} did not answer within connect_timeout_s = {timeout_s:g}")
    if is_about_certificates(error):
        detail = getattr(error, "verify_message", "") or str(error)
        return AccessError(f"{where}: the certificate was refused: {detail}")
    return ConnectionLostError(f"cannot connect to {where}: {error}")


def is_about_certificates(error: OSError) -> bool:
    """Say whether one side of a TLS connection refused the other's certificate, or the lack of one."""
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    return "CERTIFICATE" in reason or "UNKNOWN_CA" in reason
