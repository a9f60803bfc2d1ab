"""Errors of Redis servers and sockets, mapped to the errors of rambla_py."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence

from rambla_py._internal.redis_urls import Node
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    UnavailableError,
)

__all__ = [
    "KeyDeniedError",
    "NotReplicatedError",
    "RedirectError",
    "connect_error",
    "handshake_error",
    "is_about_certificates",
    "joined_error",
    "reply_error",
    "wants_new_connection",
]

# This server takes no writes now, and a new connection may reach one that does.
_ELSEWHERE = frozenset({"LOADING", "MASTERDOWN", "READONLY", "UNBLOCKED"})
_UNAVAILABLE = _ELSEWHERE | {"BUSY", "CLUSTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "TRYAGAIN"}
_ACCESS = frozenset({"DENIED", "NOAUTH", "WRONGPASS"})
_REDIRECT = re.compile(r"(MOVED|ASK) (\d+) (.*):(\d+)")
# Until Redis 7, and in Dragonfly, the error of a command in a script is quoted inside the script's own.
_IN_SCRIPT = re.compile(r"ERR Error running script .*@user_script: ?\d+: -?([A-Z]+ .*)", re.DOTALL)
_OF_A_KEY = re.compile(r"NOPERM .*(one of the|a) (keys?|channels?)", re.IGNORECASE)


class RedirectError(PermanentError):
    """The key belongs to another node: for this command (``asking``), or from now on."""

    def __init__(self, text: str, found: re.Match[str]) -> None:
        self.asking, self.slot = found[1] == "ASK", int(found[2])
        self.host, self.port = found[3], int(found[4])
        super().__init__(f"{text}: this server is a node of a cluster; set cluster = true in its connection")

    def node(self, answered: Node) -> Node:
        """Return the other node; a redirection without a host means the host of ``answered``."""
        return Node(self.host or answered.host, self.port)


class KeyDeniedError(PermanentError):
    """The user may not write to the key or topic; permanent where the payload names it."""


class NotReplicatedError(DeliveryError):
    """The master has it, and fewer replicas than ``wait_replicas``; a retry writes it again."""

    def __init__(self, where: str, confirmed: int, wanted: int, timeout_s: float) -> None:
        self.confirmed, self.wanted = confirmed, wanted
        super().__init__(
            f"{where} has it, but only {confirmed} of wait_replicas = {wanted} confirmed it "
            f"within wait_timeout_s = {timeout_s:g}"
        )


def reply_error(text: str) -> DeliveryError:
    """Return our error for an error reply, by its first word, the code.

    >>> type(reply_error("OOM command not allowed when used memory > 'maxmemory'.")).__name__
    'UnavailableError'
    >>> type(reply_error("WRONGTYPE Operation against a key holding the wrong kind of value")).__name__
    'PermanentError'
    """
    if inner := _IN_SCRIPT.fullmatch(text):
        return reply_error(inner[1].rstrip())
    code = text.split(" ", 1)[0]
    if redirect := _REDIRECT.fullmatch(text):
        return RedirectError(text, redirect)
    if code in _UNAVAILABLE:
        return UnavailableError(text)
    text = text.split(", with args beginning with", 1)[0]  # the arguments are payload data
    if text.startswith("ERR max number of clients"):
        return ConnectionLostError(text)
    if code in _ACCESS:
        return AccessError(text)
    if _OF_A_KEY.match(text):
        return KeyDeniedError(text)
    if code == "NOPERM" or text.startswith("ERR unknown command"):
        return AccessError(f"{text} (the user lacks the right, or the server is too old)")
    return PermanentError(text)


def wants_new_connection(error: DeliveryError) -> bool:
    """Return whether a new connection may help: another server may answer it, or the login is missing.

    >>> wants_new_connection(UnavailableError("READONLY You can't write against a read only replica."))
    True
    """
    code = str(error).split(" ", 1)[0]
    return code in _ELSEWHERE or code == "NOAUTH"


def handshake_error(reply: DeliveryError, where: str) -> ConnectionLostError:
    """Return our error for a refused command of the handshake; what passes by itself is a lost connection."""
    passes = isinstance(reply, UnavailableError) or type(reply) is ConnectionLostError
    kind = ConnectionLostError if passes else AccessError
    return kind(f"{where} refused the connection: {reply}")


def connect_error(error: OSError, where: str, *, timeout_s: float) -> ConnectionLostError:
    """Return our error for a failed connect; ``where`` names the server without credentials."""
    if isinstance(error, TimeoutError):
        return ConnectionLostError(f"{where} did not answer within connect_timeout_s = {timeout_s:g}")
    if is_about_certificates(error):
        detail = getattr(error, "verify_message", "") or str(error)
        return AccessError(f"{where}: the certificate was refused: {detail}")
    return ConnectionLostError(f"cannot connect to {where}: {error}")


def joined_error(lead: str, problems: Sequence[ConnectionLostError]) -> ConnectionLostError:
    """Return one error for several; an ``AccessError`` comes first."""
    refused = [problem for problem in problems if isinstance(problem, AccessError)]
    ordered = [*refused, *(problem for problem in problems if not isinstance(problem, AccessError))]
    kind = AccessError if refused else ConnectionLostError
    texts = list(dict.fromkeys(map(str, ordered)))
    rest = f"; and {len(texts) - 3} more" if len(texts) > 3 else ""
    error = kind(texts[0] if len(texts) == 1 else f"{lead}: {'; '.join(texts[:3])}{rest}")
    error.__cause__ = ordered[0].__cause__ if ordered else None
    return error


def is_about_certificates(error: OSError) -> bool:
    """Return whether one side of a TLS connection refused the other's certificate, or its absence."""
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    return "CERTIFICATE" in reason or "UNKNOWN_CA" in reason
