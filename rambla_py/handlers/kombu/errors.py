"""The errors of kombu's transports, mapped to those of rambla_py."""

from __future__ import annotations

import re
import ssl
import struct
from collections.abc import Sequence
from typing import Any, Final

import amqp
import redis
from amqp.exceptions import MessageNacked
from kombu.exceptions import InconsistencyError, SerializationError
from kombu.transport.virtual import NotEquivalentError

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
    UnroutableError,
)

__all__ = ["connect_error", "encoding_error", "publish_error"]

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
_HINTS: Final[dict[type[BaseException], str]] = {
    amqp.AccessRefused: "check the user's permissions",
    amqp.NotAllowed: "check the virtual host, and the user's permissions",
    amqp.NotFound: "create what is missing, or set declare = true",
    amqp.PreconditionFailed: "what is declared differs from what exists; correct one of them",
    amqp.ResourceLocked: "the queue is exclusive to another connection",
    amqp.exceptions.InvalidCommand: "the broker does not know this exchange type",
    NotEquivalentError: "what is declared differs from what exists; correct one of them",
    TypeError: "check transport_options",
}
_PASSING = ("is down", "inaccessible", "limit", "returned an error", "timed out")
_ENCODING = (
    *(SerializationError, struct.error, amqp.exceptions.FrameSyntaxError),
    *(TypeError, ValueError, OverflowError, RecursionError),
)
_TOO_LARGE = re.compile(r"message size (\d+) is larger than (?:configured )?max size (\d+)")
_LIMITS = "AMQP holds names, ids and content types of 255 bytes, and integers of 64 bits"
_AWS_NOWHERE = ("NonExistentQueue", "QueueDoesNotExist")
_AWS_FOR_NOW = ("Throttl", "Unavailable", "InternalError", "InternalFailure", "OverLimit")
_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"})


def connect_error(error: BaseException, *, where: str, secrets: Sequence[str]) -> ConnectionLostError:
    """Return the error of a failed connect or declaration: ``AccessError`` where an operator must act."""
    if isinstance(error, ConnectionLostError):
        return error
    if isinstance(error, ImportError):
        return AccessError(f"{where}: a package of this transport is missing: {error}")
    text = f"{where}: cannot connect: {_text(error, secrets)}"
    hint = _operator_hint(error)
    return ConnectionLostError(text) if hint is None else AccessError(f"{text}; {hint}")


def publish_error(
    error: BaseException, *, where: str, secrets: Sequence[str], losses: tuple[type[BaseException], ...]
) -> DeliveryError | None:
    """Return what an error of ``publish`` means, or None if it is not known; ``losses`` is kombu's list.

    After a loss in the middle of it the outcome is unknown: no transport tells what was written.
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


def encoding_error(error: BaseException) -> PermanentError | None:
    """Return the error of a message that cannot be encoded, or None; the driver's text may quote values."""
    if not isinstance(error, _ENCODING):
        return None
    return PermanentError(f"the transport cannot encode the message ({type(error).__name__}); {_LIMITS}")


def _by_type(error: BaseException, text: str) -> DeliveryError | None:
    """Return what the error's own class says."""
    if isinstance(error, MessageNacked):
        return RejectedError(f"{text or 'the broker refused the message'} (basic.nack)")
    if isinstance(error, InconsistencyError):
        return UnroutableError(text)
    if isinstance(error, amqp.NotFound | amqp.AccessRefused):
        return AccessError(f"{text}; {_HINTS[type(error)]}")
    if isinstance(error, redis.OutOfMemoryError | redis.BusyLoadingError | redis.ReadOnlyError):
        return UnavailableError(text)
    if isinstance(error, amqp.ResourceLocked | amqp.ResourceError):
        return RejectedError(text)
    size = _TOO_LARGE.search(str(error)) if isinstance(error, amqp.PreconditionFailed) else None
    if size is not None:
        return PayloadTooLargeError(int(size[1]), int(size[2]), "the broker's max_message_size")
    if isinstance(error, amqp.PreconditionFailed | amqp.ContentTooLarge):
        return PermanentError(text)
    if isinstance(error, SerializationError | struct.error | amqp.exceptions.FrameSyntaxError):
        return encoding_error(error)
    return None


def _of_aws(error: BaseException, text: str) -> DeliveryError | None:
    """Return what an error code of AWS means; botocore may not be installed, so it is not imported."""
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
    found = answer.get("Error") if isinstance(answer, dict) else None
    return str(found.get("Code", "")) if isinstance(found, dict) else ""


def _operator_hint(error: BaseException) -> str | None:
    """Return what an operator should do about a failed connect, or None where it may succeed by itself."""
    if any(part in str(error) for part in _PASSING):
        return None
    for kind, hint in _HINTS.items():
        if isinstance(error, kind):
            return hint
    if isinstance(error, redis.ResponseError) and "DB index" in str(error):
        return "check the number of the database in the URL"
    return "check the login, and the tls table, of the connection" if _is_refusal(error) else None


def _is_refusal(error: BaseException) -> bool:
    if isinstance(error, _DENIED) or type(error).__name__ in _CREDENTIALS:
        return True
    if _aws_code(error) in _AWS_DENIED:
        return True
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "").upper()
        return "CERT" in reason or "UNKNOWN_CA" in reason or "HANDSHAKE_FAILURE" in reason
    # redis-py wraps a refused certificate into a connection error of its own.
    return isinstance(error, redis.ConnectionError) and "CERTIFICATE" in str(error).upper()


def _text(error: BaseException, secrets: Sequence[str]) -> str:
    """Return the error's class and text, with secrets masked."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
