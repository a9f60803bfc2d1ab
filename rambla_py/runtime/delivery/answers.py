"""Classification of handlers' answers by what they mean for the delivery and its connection."""

from __future__ import annotations

from typing import Any, Literal

from rambla_py.errors import (
    AccessError,
    AttemptTimeoutError,
    ConnectionLostError,
    DeliveryError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.message import Failed
from rambla_py.runtime.target.in_flight import BatchTimeoutError, UnsentError

__all__ = ["AnswerKind", "classify", "error_of", "loses_connection", "unwrapped"]

AnswerKind = Literal["success", "failed", "unavailable", "lost", "unsent", "unknown", "overdue batch"]
"""``lost``: the connection was lost; ``unknown``: only this attempt has no answer; ``unsent``: not begun."""


def unwrapped(answer: Any) -> Any:
    """Return the error inside a ``Failed`` if it means more than a failed attempt, else the answer.

    >>> unwrapped(Failed(UnavailableError("loading"))).reason
    'loading'
    >>> unwrapped(Failed("no"))
    Failed(reason='no', retryable=None)
    """
    if not isinstance(answer, Failed) or answer.retryable is False:
        return answer
    if isinstance(answer.reason, BaseException):
        return answer.reason if classify(answer.reason) != "failed" else answer
    return answer


def classify(answer: Any) -> AnswerKind:
    """Return the kind of an answer.

    >>> classify({"id": 42}), classify(ValueError("no")), classify(AccessError("no"))
    ('success', 'failed', 'unavailable')
    """
    match answer:
        case UnavailableError() | AccessError():
            return "unavailable"
        case UnsentError():
            return "unsent"
        case BatchTimeoutError():
            return "overdue batch"
        case AttemptTimeoutError():
            return "unknown"
        case UnknownOutcomeError():
            return "lost" if answer.connection_lost else "unknown"
        case ConnectionLostError():
            return "lost"
        case Failed() | BaseException():
            return "failed"
        case _:
            return "success"


def error_of(answer: Failed | BaseException) -> BaseException:
    """Return the error that a failed attempt is recorded with.

    >>> error_of(Failed("no"))
    DeliveryError('no')
    """
    reason = answer.reason if isinstance(answer, Failed) else answer
    return reason if isinstance(reason, BaseException) else DeliveryError(reason)


def loses_connection(answer: Any) -> bool:
    """Return whether an answer means that the connection is lost; looks only at its type, so cannot raise.

    >>> loses_connection(ConnectionLostError("reset")), loses_connection(AccessError("no"))
    (True, False)
    """
    return issubclass(type(answer), BaseException) and classify(answer) == "lost"
