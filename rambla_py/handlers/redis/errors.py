"""This module maps what a Redis server or its driver reports to the errors of rambla_py."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
)
from rambla_py.handlers.redis.urls import Node

__all__ = [
    "NotReplicatedError",
    "RedirectError",
    "UnservedError",
    "connect_error",
    "is_about_certificates",
    "joined_error",
    "reply_error",
]

# The server refuses everything for now, or everything that writes: a new connection may reach another one.
_ELSEWHERE = frozenset({"READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED"})
_ACCESS = frozenset({"NOAUTH", "WRONGPASS"})
_CLUSTER = frozenset({"CLUSTERDOWN", "TRYAGAIN"})
_REDIRECT = re.compile(r"(MOVED|ASK) (\d+) (.*):(\d+)")
# Until Redis 7, and in Dragonfly, the error of a command in a script is in the midst of the script's own.
_IN_SCRIPT = re.compile(r"ERR Error running script .*@user_script: ?\d+: -?([A-Z]+ .*)", re.DOTALL)
_FOR_NOW = frozenset({"OOM", "BUSY", "NOREPLICAS", "MISCONF", "UNKILLABLE", "EXECABORT"})


class RedirectError(PermanentError):
    """The key belongs to another node: this once (``asking``), or from now on. For who can follow."""

    def __init__(self, text: str, found: re.Match[str]) -> None:
        self.asking, self.slot = found[1] == "ASK", int(found[2])
        self.host, self.port = found[3], int(found[4])
        super().__init__(f"{text}: this server is a node of a cluster; set cluster = true in its connection")

    def node(self, answered: Node) -> Node:
        """Return where to go; ``answered`` is who said so, and stands for a host that is not told."""
        return Node(self.host or answered.host, self.port)


class UnservedError(RejectedError):
    """Nothing was applied: the part of the cluster that the message belongs to takes no writes for now.

    ``left`` is how many retries the message has left, where they are to be spared.
    """

    def __init__(self, text: str, left: int | None = None) -> None:
        self.left = left
        super().__init__(text)


class NotReplicatedError(DeliveryError):
    """The master has it, and fewer replicas than ``wait_replicas``; a retry writes it again."""

    def __init__(self, where: str, confirmed: int, wanted: int, timeout_s: float) -> None:
        self.confirmed, self.wanted = confirmed, wanted
        super().__init__(
            f"{where} has it, but only {confirmed} of wait_replicas = {wanted} confirmed it "
            f"within wait_timeout_s = {timeout_s:g}"
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
    if inner := _IN_SCRIPT.fullmatch(text):
        return reply_error(inner[1].rstrip())
    code = text.split(" ", 1)[0]
    redirect = _REDIRECT.fullmatch(text)
    if redirect:
        return RedirectError(text, redirect)
    if code in _CLUSTER:
        return UnservedError(text)
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


def joined_error(lead: str, problems: Sequence[ConnectionLostError]) -> ConnectionLostError:
    """Return one error for several; what a person must mend comes first."""
    refused = [problem for problem in problems if isinstance(problem, AccessError)]
    ordered = [*refused, *(problem for problem in problems if not isinstance(problem, AccessError))]
    kind = AccessError if refused else ConnectionLostError
    told = list(dict.fromkeys(map(str, ordered)))
    rest = f"; and {len(told) - 3} more" if len(told) > 3 else ""
    error = kind(told[0] if len(told) == 1 else f"{lead}: {'; '.join(told[:3])}{rest}")
    error.__cause__ = ordered[0].__cause__ if ordered else None
    return error


def is_about_certificates(error: OSError) -> bool:
    """Say whether one side of a TLS connection refused the other's certificate, or the lack of one."""
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    return "CERTIFICATE" in reason or "UNKNOWN_CA" in reason
