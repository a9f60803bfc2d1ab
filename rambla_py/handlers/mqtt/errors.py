"""This module maps the reason codes of MQTT 5 and what sockets raise to the errors of rambla_py."""

from __future__ import annotations

import ssl

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
)

__all__ = ["FAILURE", "answer_error", "connect_error", "reason_text", "refusal"]

FAILURE = 0x80
"""Reason codes from here on say that something failed."""

_REASONS = {
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "this version of MQTT is not supported",
    0x85: "the client's name is not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "the server is unavailable",
    0x89: "the server is busy",
    0x8A: "banned",
    0x8B: "the server is shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "another client took over the session",
    0x90: "the topic's name is not valid",
    0x91: "the packet's number is in use",
    0x92: "the packet's number is not known",
    0x93: "more in flight than the receive maximum",
    0x95: "the packet is too large",
    0x97: "quota exceeded",
    0x99: "the payload's format is not valid",
    0x9A: "retain is not supported",
    0x9B: "this QoS is not supported",
    0x9F: "connections come too fast",
}
_ACCESS = frozenset({0x86, 0x87, 0x8A, 0x8C})
# 0x87 belongs to one topic here: the next message may well pass.
_FOR_GOOD = frozenset({0x81, 0x82, 0x87, 0x90, 0x95, 0x99, 0x9A, 0x9B})


def reason_text(code: int) -> str:
    """Return a reason code in words.

    >>> reason_text(0x97)
    'quota exceeded (0x97)'
    """
    return f"{_REASONS.get(code, 'a reason unknown')} (0x{code:02x})"


def answer_error(code: int, where: str, topic: str) -> DeliveryError:
    """Return what a PUBACK, PUBREC or PUBCOMP with this code means for its message.

    >>> type(answer_error(0x97, "mqtt at db:1883", "a/b")).__name__
    'RejectedError'
    """
    kind = PermanentError if code in _FOR_GOOD else RejectedError
    return kind(f"{where} did not take the message to {topic!r}: {reason_text(code)}")


def refusal(code: int, where: str, during: str) -> ConnectionLostError:
    """Return what a CONNACK or DISCONNECT with this code means for the connection."""
    kind = AccessError if code in _ACCESS else ConnectionLostError
    return kind(f"{where}: {during}: {reason_text(code)}")


def connect_error(error: BaseException, where: str, *, timeout_s: float) -> ConnectionLostError:
    """Return the error that a failed connect stands for."""
    if isinstance(error, TimeoutError):
        return ConnectionLostError(f"{where} did not answer within connect_timeout_s = {timeout_s:g}")
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").upper()
        if "CERT" in reason or "UNKNOWN_CA" in reason:
            detail = getattr(error, "verify_message", "") or str(error)
            return AccessError(f"{where}: the certificate was refused: {detail}")
    return ConnectionLostError(f"cannot connect to {where}: {error or type(error).__name__}")
