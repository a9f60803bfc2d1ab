"""pyreqwest's errors mapped to those of rambla_py."""

from __future__ import annotations

from pyreqwest.exceptions import BuilderError, PyreqwestError, RequestTimeoutError

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    UnknownOutcomeError,
)

__all__ = ["NO_ANSWER", "RefusedError", "encoding_error", "transport_error"]

NO_ANSWER = (ConnectionLostError, UnknownOutcomeError)
"""The errors of a request that has no answer."""

# If a batch is refused with one of these, a part of it may pass: the content was refused, not the request.
_ABOUT_CONTENT = frozenset({400, 409, 413, 422})

# pyreqwest calls everything before the answer a ConnectError; the causes tell the phases apart.
_UNSENT = ("client error (Connect)", "client error (Canceled)", "client error (ChannelClosed)")
_NO_TLS = "InvalidContentType"
_PROXY_LOGIN = "proxy authorization required"
_CERTIFICATES = (
    "invalid peer certificate",
    "CertificateRequired",
    "BadCertificate",
    "UnknownCA",
    "CertificateUnknown",
    "CertificateExpired",
    "CertificateRevoked",
    "UnsupportedCertificate",
)


class RefusedError(PermanentError):
    """The server refused a request for good; ``status`` is the HTTP status."""

    status: int

    def __init__(self, text: str, status: int) -> None:
        self.status = status
        super().__init__(text)

    @property
    def concerns_content(self) -> bool:
        """Whether a part of the same batch may be accepted."""
        return self.status in _ABOUT_CONTENT


def transport_error(error: Exception, *, where: str, timeout_s: float) -> DeliveryError:
    """Return our error for a request without an answer; ``where`` names the server without secrets.

    ``AccessError`` if a certificate was refused, ``ConnectionLostError`` if nothing was sent,
    ``UnknownOutcomeError`` if the request may have been read. A time-out concerns this request only; after
    any other ``UnknownOutcomeError`` the server may be gone.
    """
    causes = _causes(error)
    text = f"{where}: {_words(causes) or type(error).__name__}"
    if any(mark in cause for cause in causes for mark in _CERTIFICATES):
        return AccessError(f"{where}: the certificate was refused: {_words(causes)}")
    if any(_PROXY_LOGIN in cause for cause in causes):
        return AccessError(f"{where}: the proxy refuses the credentials: {_words(causes)}")
    if any(cause in _UNSENT for cause in causes):
        hint = "; the server does not speak TLS on this port: is the scheme http?" if _NO_TLS in text else ""
        return ConnectionLostError(f"cannot connect to {text}{hint}")
    if isinstance(error, RequestTimeoutError):
        return UnknownOutcomeError(f"{where}: no answer within {timeout_s:g} s", connection_lost=False)
    if isinstance(error, BuilderError | ValueError):
        return PermanentError(f"{where}: not a request that can be sent: {_words(causes) or error}")
    return UnknownOutcomeError(f"{text}; the request may have been read")


def encoding_error(error: Exception) -> Exception:
    """Return the error of a message that cannot be encoded; a ``UnicodeError`` becomes permanent."""
    if isinstance(error, UnicodeError):
        return PermanentError(f"the message cannot be encoded: {error}")
    return error


def _causes(error: Exception) -> list[str]:
    details = getattr(error, "details", None) if isinstance(error, PyreqwestError) else None
    return [str(cause["message"]) for cause in (details or {}).get("causes") or ()]


def _words(causes: list[str]) -> str:
    """Return the causes without those that quote the URL, and those that only name a phase."""
    shown = [cause for cause in causes if not cause.startswith(("error sending request", "client error"))]
    return ": ".join(dict.fromkeys(shown))
