"""This module maps what a relay answers, and what smtplib raises, to the errors of rambla_py."""

from __future__ import annotations

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
)

__all__ = ["CLOSING", "Reply", "connect_error", "recipients_error", "refusal", "words_of"]

CLOSING = 421
_NO_ACCESS = frozenset({530, 534, 535, 538})
_TROUBLES = ("CERTIFICATE", "UNKNOWN_CA", "BAD_CERT")
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
_MOST_NAMED = 20


class Reply(NamedTuple):
    """An answer of the relay: its code, and its text on one line."""

    code: int
    text: str

    @property
    def positive(self) -> bool:
        """Whether the relay did what it was asked."""
        return 200 <= self.code < 300

    @property
    def later(self) -> bool:
        """Whether the relay says that it may do it another time."""
        return 400 <= self.code < 500

    def __str__(self) -> str:
        return f"{self.code} {self.text}".strip()


def refusal(reply: Reply, *, during: str) -> DeliveryError:
    """Return the error that an answer stands for; ``during`` names what was asked.

    >>> refusal(Reply(451, "4.7.1 greylisted"), during="DATA").retryable
    True
    >>> refusal(Reply(554, "5.7.1 spam"), during="DATA")
    PermanentError('the relay answered DATA with 554 5.7.1 spam')
    """
    text = f"the relay answered {during} with {reply}"
    if reply.code == CLOSING:
        return ConnectionLostError(text)
    if reply.code in _NO_ACCESS:
        return AccessError(f"{text}; look at username, password and tls of the connection")
    if reply.later:
        return RejectedError(text)
    if 500 <= reply.code < 600:
        return PermanentError(text)
    return ConnectionLostError(f"{text}, which is no answer to it")


def recipients_error(refused: Mapping[str, Reply], total: int) -> DeliveryError:
    """Return the error for recipients that the relay refused, each named with its answer.

    Permanent as soon as one of them is: a retry would be refused again.

    >>> recipients_error({"a@b.example": Reply(550, "no such user")}, 2)
    PermanentError('1 of 2 recipients refused, the mail was sent to nobody: a@b.example: 550 no such user')
    """
    named = [f"{address}: {reply}" for address, reply in refused.items()]
    told = "; ".join(named[:_MOST_NAMED])
    rest = f"; and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    text = f"{len(refused)} of {total} recipients refused, the mail was sent to nobody: {told}{rest}"
    return RejectedError(text) if all(reply.later for reply in refused.values()) else PermanentError(text)


def connect_error(
    error: BaseException, where: str, *, timeout_s: float, mode: Literal["never", "starttls", "tls"]
) -> ConnectionLostError:
    """Return the error that a failed connect stands for; ``where`` names the relay without credentials."""
    cause = _cause(error)
    if isinstance(cause, TimeoutError):
        hint = "" if mode == "tls" else "; a port that begins with TLS is silent: it needs tls = 'tls'"
        return ConnectionLostError(f"{where} did not answer within connect_timeout_s = {timeout_s:g}{hint}")
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return AccessError(
            f"{where} does not begin with TLS ({cause.reason}); set tls = 'starttls' or 'never'"
        )
    if _is_about_certificates(cause):
        detail = getattr(cause, "verify_message", "") or str(cause)
        return AccessError(f"{where}: the certificate was refused: {detail}")
    if isinstance(error, smtplib.SMTPAuthenticationError):
        kind = ConnectionLostError if 400 <= error.smtp_code < 500 else AccessError
        return kind(f"{where} refused the login: {error.smtp_code} {words_of(error.smtp_error)}")
    if isinstance(error, smtplib.SMTPResponseException) and error.smtp_code < 0:
        return ConnectionLostError(f"{where} does not speak SMTP; is the port right?")
    if isinstance(error, smtplib.SMTPResponseException):
        return ConnectionLostError(
            f"{where} refused the connection: {error.smtp_code} {words_of(error.smtp_error)}"
        )
    return ConnectionLostError(f"cannot connect to {where}: {cause}")


def words_of(text: bytes | str) -> str:
    """Return what a relay says, on one line."""
    told = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return " ".join(told.split())


def _cause(error: BaseException) -> BaseException:
    """Return what smtplib wrapped: it raises its own error while it handles that of the socket."""
    if isinstance(error, smtplib.SMTPServerDisconnected) and isinstance(error.__context__, OSError):
        return error.__context__
    return error


def _is_about_certificates(error: BaseException) -> bool:
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    return any(trouble in reason for trouble in _TROUBLES)
