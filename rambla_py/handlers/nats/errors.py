"""This module maps what a NATS server or its driver reports to the errors of rambla_py."""

from __future__ import annotations

import ssl

from nats import errors

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
)

__all__ = ["lost_error", "refused_subject", "stream_error"]

_DENIED = ("authorization violation", "authentication", "user ", "account ", "expired")
_PERMISSIONS = "permissions violation for publish to "
_SERVER_TROUBLES = 500
_TOO_MANY_REQUESTS = 429


def lost_error(
    error: BaseException | None, *, where: str, during: str = "the connection was lost"
) -> ConnectionLostError:
    """Return our error for a connection that failed or ended; ``where`` is without credentials.

    >>> lost_error(errors.AuthorizationError(), where="nats at db:4222", during="cannot connect")
    AccessError('nats at db:4222: cannot connect: nats: authorization failed')
    """
    if error is None:
        return ConnectionLostError(f"{where}: {during}: the server closed it")
    # A time-out has no text of its own.
    text = str(error) or type(error).__name__
    kind = AccessError if _is_refusal(error, text.lower()) else ConnectionLostError
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the certificate was refused: {error.verify_message}"
    return kind(f"{where}: {during}: {text}")


def stream_error(code: int, description: str) -> DeliveryError:
    """Return what JetStream's answer to one message means: 4xx is for good, 5xx for now.

    >>> type(stream_error(400, "expected stream does not match")).__name__
    'PermanentError'
    >>> type(stream_error(503, "maximum messages exceeded")).__name__
    'RejectedError'
    """
    for_good = code < _SERVER_TROUBLES and code != _TOO_MANY_REQUESTS
    return (PermanentError if for_good else RejectedError)(f"JetStream refused it: {code} {description}")


def refused_subject(error: BaseException) -> str | None:
    r"""Return the subject that the server forbids us, when the error says that.

    >>> refused_subject(errors.Error("nats: permissions violation for publish to \"a.b\""))
    'a.b'
    """
    before, found, _ = str(error).lower().partition(_PERMISSIONS)
    if not found:
        return None
    start = len(before) + len(found)
    return str(error)[start:].strip("'").strip('"')


def _is_refusal(error: BaseException, text: str) -> bool:
    if isinstance(error, errors.AuthorizationError | errors.InvalidUserCredentialsError):
        return True
    if isinstance(error, ssl.SSLError):
        return "CERT" in (error.reason or "").upper() or "UNKNOWN_CA" in (error.reason or "").upper()
    if isinstance(error, errors.SecureConnWantedError | errors.SecureConnRequiredError):
        return True
    return type(error) is errors.Error and any(word in text for word in _DENIED)
