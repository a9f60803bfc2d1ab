"""Errors of messages that cannot be encoded for their backend."""

from __future__ import annotations

from rambla_py.errors import PermanentError, RamblaError

__all__ = ["checked_utf8", "encoding_error"]


def encoding_error(error: Exception) -> Exception:
    """Return what a message fails with when encoding it raised ``error``; no retry can encode it either.

    >>> encoding_error(TypeError("a list")).retryable
    False
    """
    if isinstance(error, RamblaError):
        return error
    made = PermanentError(f"cannot encode the message: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made


def checked_utf8(text: str, what: str) -> bytes:
    r"""Return a string as UTF-8; raises ``PermanentError`` that says what it is, for a lone surrogate.

    >>> checked_utf8("Zoë", "subject")
    b'Zo\xc3\xab'
    """
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise PermanentError(f"{what} {text!r}: a lone surrogate, which UTF-8 cannot encode") from error
