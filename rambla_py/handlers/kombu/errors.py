"""This module maps what kombu's transports raise to the errors of rambla_py."""

from __future__ import annotations

import ssl
import struct
from collections.abc import Sequence
from typing import Any

import amqp
import redis
from amqp.exceptions import MessageNacked
from kombu.exceptions import InconsistencyError, SerializationError

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
    UnroutableError,
)

__all__ = ["connect_error", "publish_error"]

_DENIED = (amqp.AccessRefused, amqp.NotAllowed, redis.AuthenticationError)
_AWS_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredToken",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_LIMITS = "AMQP holds names, ids and content types of 255 bytes, and integers of 64 bits"
_AWS_NOWHERE = ("NonExistentQueue", "QueueDoesNotExist")
_AWS_FOR_NOW = ("Throttl", "Unavailable", "InternalError", "InternalFailure", "OverLimit")
_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"})


def connect_error(error: BaseException, *, where: str, secrets: Sequence[str]) -> ConnectionLostError:
    """Return the error that a failed connect, or a failed declaration, stands for."""
    if isinstance(error, ConnectionLostError):
        return error
    if isinstance(error, ImportError):
        return ConnectionLostError(f"{where}: a package of this transport is missing: {error}")
    kind = AccessError if _is_refusal(error) else ConnectionLostError
    return kind(f"{where}: cannot connect: {_text(error, secrets)}")


def publish_error(
    error: BaseException, *, where: str, secrets: Sequence[str], losses: tuple[type[BaseException], ...]
) -> DeliveryError | None:
    """Return what an error of ``publish`` means, or None for what nobody knows; ``losses`` is kombu's list.

    A loss in the middle of it is of unknown outcome: no transport tells whether it had written.
    """
    if isinstance(error, DeliveryError):
        return error
    text = f"{where}: {_text(error, secrets)}"
    known = _by_type(error, text) or _of_aws(error, text)
    if known is not None:
        return known
    if _is_refusal(error):
        return AccessError(text)
    if isinstance(error, (*losses, OSError)):
        return UnknownOutcomeError(f"the connection was lost before the answer: {text}")
    return None


def _by_type(error: BaseException, text: str) -> DeliveryError | None:
    """Return what the error's own class says."""
    if isinstance(error, MessageNacked):
        return RejectedError(f"{text or 'the broker did not take the message'} (basic.nack)")
    if isinstance(error, amqp.NotFound | InconsistencyError):
        return UnroutableError(text)
    if isinstance(error, amqp.ResourceLocked | amqp.ResourceError | redis.OutOfMemoryError):
        return RejectedError(text)
    if isinstance(error, amqp.PreconditionFailed | amqp.ContentTooLarge | amqp.AccessRefused):
        return PermanentError(text)
    if isinstance(error, SerializationError):
        return PermanentError(text)
    if isinstance(error, struct.error | amqp.exceptions.FrameSyntaxError):
        return PermanentError(f"{_LIMITS}: {text}")
    return None


def _of_aws(error: BaseException, text: str) -> DeliveryError | None:
    """Return what a code of Amazon's means; botocore is not imported for it, it may be missing."""
    code = _aws_code(error)
    if not code or code in _AWS_DENIED:
        return None
    if any(name in code for name in _AWS_NOWHERE):
        return UnroutableError(text)
    if any(name in code for name in _AWS_FOR_NOW):
        return RejectedError(text)
    return PermanentError(text)


def _aws_code(error: BaseException) -> str:
    answer: Any = getattr(error, "response", None)
    told = answer.get("Error") if isinstance(answer, dict) else None
    return str(told.get("Code", "")) if isinstance(told, dict) else ""


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, _DENIED) or type(error).__name__ in _CREDENTIALS:
        return True
    if _aws_code(error) in _AWS_DENIED:
        return True
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").upper()
        return "CERT" in reason or "UNKNOWN_CA" in reason
    # redis-py wraps what TLS says of a certificate into a connection error of its own.
    return isinstance(error, redis.ConnectionError) and "CERTIFICATE" in str(error).upper()


def _text(error: BaseException, secrets: Sequence[str]) -> str:
    """Return the error in words, with whatever is secret struck out."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
