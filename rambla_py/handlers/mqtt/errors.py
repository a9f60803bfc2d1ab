"""Reason codes of MQTT 5 and errors of sockets, mapped to the errors of rambla_py."""

from __future__ import annotations

import ssl

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnavailableError,
)

__all__ = [
    "FAILURE",
    "OldProtocolError",
    "connect_error",
    "lost_error",
    "publish_error",
    "reason_text",
    "refusal",
]

FAILURE = 0x80
"""The first reason code that means a failure."""

_REASONS = {
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "this version of MQTT is not supported",
    0x85: "the client identifier is not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "the server is unavailable",
    0x89: "the server is busy",
    0x8A: "banned",
    0x8B: "the server is shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "another client took over the session",
    0x8F: "the topic filter is not valid",
    0x90: "the topic name is not valid",
    0x91: "the packet identifier is in use",
    0x92: "the packet identifier is not known",
    0x93: "more in flight than the receive maximum",
    0x94: "the topic alias is not valid",
    0x95: "the packet is too large",
    0x96: "the message rate is too high",
    0x97: "quota exceeded",
    0x98: "closed by an administrator",
    0x99: "the payload format is not valid",
    0x9A: "retain is not supported",
    0x9B: "this QoS is not supported",
    0x9C: "use another server",
    0x9D: "the server has moved",
    0x9F: "the connection rate is too high",
    0xA0: "maximum connect time",
}
# Refused logins, versions, client identifiers and addresses: an operator must change the configuration.
_ACCESS = frozenset({0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x9C, 0x9D})
_PERMANENT = frozenset({0x81, 0x82, 0x90, 0x95, 0x99, 0x9A, 0x9B})
_NOT_AUTHORIZED = 0x87
_UNAVAILABLE = frozenset({0x88, 0x89, 0x96, 0x97})


class OldProtocolError(Exception):
    """The broker replied in MQTT 3.1.1, with this return code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the broker replied in MQTT 3.1.1 (return code {code}); MQTT 5 is required")


def reason_text(code: int) -> str:
    """Return a reason code in words.

    >>> reason_text(0x97)
    'quota exceeded (0x97)'
    """
    return f"{_REASONS.get(code, 'unknown reason code')} (0x{code:02x})"


def publish_error(code: int, where: str, topic: str) -> DeliveryError:
    """Return our error for a PUBACK, PUBREC or PUBCOMP with this code.

    >>> type(publish_error(0x97, "mqtt at db:1883", "a/b")).__name__
    'UnavailableError'
    """
    text = f"{where} did not accept the message to {topic!r}: {reason_text(code)}"
    if code in _UNAVAILABLE:
        return UnavailableError(text)
    if code == _NOT_AUTHORIZED:
        return AccessError(text)
    return (PermanentError if code in _PERMANENT else RejectedError)(text)


def refusal(code: int, where: str, during: str) -> ConnectionLostError:
    """Return our error for a CONNACK or DISCONNECT with this code."""
    kind = AccessError if code in _ACCESS else ConnectionLostError
    return kind(f"{where}: {during}: {reason_text(code)}")


def connect_error(error: BaseException, where: str, *, timeout_s: float) -> ConnectionLostError:
    """Return our error for a failed connect."""
    if isinstance(error, TimeoutError):
        return ConnectionLostError(f"{where} did not answer within connect_timeout_s = {timeout_s:g}")
    return lost_error(error, where, "cannot connect")


def lost_error(cause: BaseException | None, where: str, during: str) -> ConnectionLostError:
    """Return our error for a connection that ended, with the exception that ended it as its cause.

    >>> lost_error(OldProtocolError(1), "mqtt at db:1883", "cannot connect")
    AccessError('mqtt at db:1883: cannot connect: the broker replied in MQTT 3.1.1 (return code 1); MQTT 5 \
is required')
    """
    kind: type[ConnectionLostError] = ConnectionLostError
    text = "the broker closed it"
    if isinstance(cause, OldProtocolError):
        kind, text = AccessError, str(cause)
    elif isinstance(cause, ssl.SSLError) and _about_certificates(cause):
        detail = getattr(cause, "verify_message", "") or str(cause)
        kind, text = AccessError, f"the certificate was refused: {detail}"
    elif isinstance(cause, OSError):
        text = str(cause) or type(cause).__name__
    elif cause is not None:
        text = f"{type(cause).__name__}: {cause}"
    made = kind(f"{where}: {during}: {text}")
    made.__cause__ = cause
    return made


def _about_certificates(error: ssl.SSLError) -> bool:
    reason = (error.reason or "").upper()
    return "CERT" in reason or "UNKNOWN_CA" in reason
