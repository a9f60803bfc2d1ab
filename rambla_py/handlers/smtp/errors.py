"""Errors for a relay's replies, and for what smtplib raises."""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Mapping
from typing import Literal, NamedTuple

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnavailableError,
)

__all__ = ["CLOSING", "Reply", "connect_error", "line_of", "masked", "recipients_error", "refusal"]

CLOSING = 421
_NO_ACCESS = frozenset({530, 534, 535, 538})
_BEFORE_RCPT = frozenset({"MAIL FROM", "NOOP", "RSET"})
_ADDRESS = re.compile(r"[^\s<>()\[\]:;,\"']+@([A-Za-z0-9.-]+)")
_CERTIFICATE_REASONS = ("CERTIFICATE", "UNKNOWN_CA", "BAD_CERT")
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
_MOST_NAMED = 20


class Reply(NamedTuple):
    """A reply of the relay: its code, and its text on one line."""

    code: int
    text: str

    @property
    def positive(self) -> bool:
        """Whether the command succeeded."""
        return 200 <= self.code < 300

    @property
    def transient(self) -> bool:
        """Whether the relay may accept the same command later."""
        return 400 <= self.code < 500

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()


def masked(text: object) -> str:
    """Return text for errors and logs, without the local parts of mail addresses.

    >>> masked(Reply(550, "<ann@example.com>: no such user"))
    '550 <***@example.com>: no such user'
    """
    return _ADDRESS.sub(r"***@\1", str(text))


def refusal(reply: Reply, *, during: str) -> DeliveryError:
    """Return the error for a negative reply; ``during`` names the command.

    421 at any time, and 4xx before RCPT, mean that the relay takes no mail now. Other 4xx replies concern one
    mail.

    >>> refusal(Reply(451, "4.7.1 greylisted"), during="DATA").retryable
    True
    >>> refusal(Reply(451, "4.3.1 queue full"), during="MAIL FROM")
    UnavailableError('the relay answered MAIL FROM with 451 4.3.1 queue full')
    >>> refusal(Reply(554, "5.7.1 spam"), during="DATA")
    PermanentError('the relay answered DATA with 554 5.7.1 spam')
    """
    text = f"the relay answered {during} with {masked(reply)}"
    if reply.code == CLOSING or (reply.transient and during in _BEFORE_RCPT):
        return UnavailableError(text)
    if reply.code in _NO_ACCESS:
        return AccessError(f"{text}; check username, password and tls of the connection")
    if reply.transient:
        return RejectedError(text)
    if 500 <= reply.code < 600:
        return PermanentError(text)
    return ConnectionLostError(f"{text}, which is not a reply to it")


def recipients_error(refused: Mapping[int, Reply], total: int) -> DeliveryError:
    """Return the error for refused recipients, by their place among all of them, the first being 1.

    Permanent as soon as one refusal is, because a retry would be refused again.

    >>> recipients_error({2: Reply(550, "no such user")}, 2)
    PermanentError('1 of 2 recipients refused, the mail was sent to none: recipient 2: 550 no such user')
    """
    named = [f"recipient {place}: {masked(reply)}" for place, reply in refused.items()]
    rest = f"; and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    listed = "; ".join(named[:_MOST_NAMED])
    text = f"{len(refused)} of {total} recipients refused, the mail was sent to none: {listed}{rest}"
    return RejectedError(text) if all(one.transient for one in refused.values()) else PermanentError(text)


def connect_error(
    error: BaseException, where: str, *, timeout_s: float, mode: Literal["never", "starttls", "tls"]
) -> ConnectionLostError:
    """Return the error for a failed connect; ``where`` names the relay without credentials."""
    cause = _cause(error)
    if isinstance(cause, TimeoutError):
        hint = "" if mode == "tls" else "; a port where TLS starts with the first byte needs tls = 'tls'"
        return ConnectionLostError(f"{where} did not answer within connect_timeout_s = {timeout_s:g}{hint}")
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return AccessError(
            f"{where} does not start with TLS ({cause.reason}); set tls = 'starttls' or 'never'"
        )
    if _is_about_certificates(cause):
        detail = getattr(cause, "verify_message", "") or str(cause)
        return AccessError(f"{where}: the certificate is not accepted: {detail}")
    if isinstance(error, smtplib.SMTPAuthenticationError):
        kind = ConnectionLostError if 400 <= error.smtp_code < 500 else AccessError
        return kind(f"{where} refused the login: {error.smtp_code} {line_of(error.smtp_error)}")
    if isinstance(error, smtplib.SMTPResponseException) and (
        error.smtp_code < 0 or isinstance(error.smtp_error, str)  # smtplib's own text: a line too long
    ):
        return ConnectionLostError(f"{where} does not speak SMTP; check the port")
    if isinstance(error, smtplib.SMTPResponseException):
        kind = AccessError if 500 <= error.smtp_code < 600 else ConnectionLostError
        return kind(f"{where} refused the connection: {error.smtp_code} {line_of(error.smtp_error)}")
    return ConnectionLostError(f"cannot connect to {where}: {cause}")


def line_of(text: bytes | str) -> str:
    """Return the text of a reply on one line."""
    decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return " ".join(decoded.split())


def _cause(error: BaseException) -> BaseException:
    """Return the error of the socket behind one of smtplib's, which keeps it as its context."""
    if isinstance(error, smtplib.SMTPServerDisconnected) and isinstance(error.__context__, OSError):
        return error.__context__
    return error


def _is_about_certificates(error: BaseException) -> bool:
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    return any(part in reason for part in _CERTIFICATE_REASONS)
