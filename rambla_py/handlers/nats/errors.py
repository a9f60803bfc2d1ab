"""Errors of NATS servers and of nats-py, mapped to the errors of rambla_py."""

from __future__ import annotations

import ssl

from nats import errors

from rambla_py.errors import AccessError, ConnectionLostError

__all__ = ["lost_error", "refused_subject", "refused_subscription"]

# What a server sends as -ERR when credentials, an account or TLS are the reason, in lower case.
_DENIED = (
    "authorization violation",
    "authentication expired",
    "authentication revoked",
    "credentials have been revoked",
    "failed account registration",
    "secure connection - tls required",
)
_PUBLISH = "permissions violation for publish to "
_SUBSCRIBE = "permissions violation for subscription to "


def lost_error(
    error: BaseException | None, *, where: str, during: str = "the connection was lost"
) -> ConnectionLostError:
    """Return our error for a connection that failed or ended; ``where`` is without credentials.

    >>> lost_error(errors.AuthorizationError(), where="nats at db:4222", during="cannot connect")
    AccessError('nats at db:4222: cannot connect: nats: authorization failed')
    """
    if error is None:
        return ConnectionLostError(f"{where}: {during}: the server closed it")
    text = str(error) or type(error).__name__  # a time-out has no text of its own
    kind = AccessError if _needs_operator(error, text.lower()) else ConnectionLostError
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the certificate was refused: {error.verify_message}"
    made = kind(f"{where}: {during}: {text}")
    made.__cause__ = error
    return made


def refused_subject(error: BaseException) -> str | None:
    r"""Return the subject that the user may not publish to, when the error is about one.

    >>> refused_subject(errors.Error("nats: permissions violation for publish to \"a.b\""))
    'a.b'
    """
    return _subject_after(_PUBLISH, str(error))


def refused_subscription(error: BaseException) -> str | None:
    r"""Return the subject that the user may not subscribe to, when the error is about one.

    >>> refused_subscription(errors.Error("nats: permissions violation for subscription to \"a.*\""))
    'a.*'
    """
    return _subject_after(_SUBSCRIBE, str(error))


def _subject_after(lead: str, text: str) -> str | None:
    _, found, rest = text.lower().partition(lead)
    return text[len(text) - len(rest) :].strip("'").strip('"') if found else None


def _needs_operator(error: BaseException, text: str) -> bool:
    if isinstance(error, errors.AuthorizationError | errors.InvalidUserCredentialsError):
        return True
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").upper()
        return "CERT" in reason or "UNKNOWN_CA" in reason
    if isinstance(error, errors.SecureConnWantedError | errors.SecureConnRequiredError):
        return True
    return type(error) is errors.Error and any(word in text for word in _DENIED)
