"""This module maps what pika raises to the errors of rambla_py, with no secret in their texts."""

from __future__ import annotations

import ssl

from pika import exceptions
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorPhaseErrorBase,
    AMQPConnectorStackTimeout,
)

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    RejectedError,
    UnroutableError,
)

__all__ = ["as_lost", "as_refusal", "root_cause"]

_REFUSED = (
    exceptions.AuthenticationError,
    exceptions.ProbableAuthenticationError,
    exceptions.ProbableAccessDeniedError,
)
_ACCESS_REFUSED, _NOT_FOUND, _NOT_ALLOWED = 403, 404, 530
_CERTIFICATE_TROUBLES = ("CERTIFICATE", "UNKNOWN_CA", "BAD_CERT")


def as_lost(
    error: BaseException | None, *, where: str, during: str = "the connection was lost"
) -> ConnectionLostError:
    """Return our error for a connection that failed or ended: ``AccessError`` where a person must act.

    ``where`` is host and port; the text never holds credentials, which pika's own texts do not either.
    """
    cause = root_cause(error)
    kind = AccessError if _is_refusal(cause) else ConnectionLostError
    lost = kind(f"{where}: {during}: {_words(cause)}")
    lost.__cause__ = cause
    return lost


def as_refusal(reason: BaseException | None, *, exchange: str, alone: bool) -> DeliveryError | None:
    """Return what a closed channel means for one message in flight, or None when that cannot be known.

    The broker closes the channel for one message and ignores all that follow. When its text names the
    exchange, no message to that exchange was taken; when one message only was in flight, it was that one.

    >>> as_refusal(exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'x' in vhost '/'"),
    ...            exchange="x", alone=False)
    UnroutableError("the broker closed the channel: 404 NOT_FOUND - no exchange 'x' in vhost '/'")
    """
    if not isinstance(reason, exceptions.ChannelClosedByBroker):
        return None
    if not alone and f"exchange '{exchange}' " not in reason.reply_text:
        return None
    text = f"the broker closed the channel: {_words(reason)}"
    return UnroutableError(text) if reason.reply_code == _NOT_FOUND else RejectedError(text)


def root_cause(error: BaseException | None) -> BaseException | None:
    """Return what is inside pika's wrappings."""
    while True:
        if isinstance(error, AMQPConnectionWorkflowFailed) and error.exceptions:
            error = error.exceptions[-1]
        elif isinstance(error, AMQPConnectorPhaseErrorBase):
            error = error.exception
        elif type(error) is exceptions.AMQPConnectionError and error.args and _is_error(error.args[0]):
            error = error.args[0]
        else:
            return error


def _is_error(value: object) -> bool:
    return isinstance(value, BaseException)


def _is_refusal(error: BaseException | None) -> bool:
    if isinstance(error, _REFUSED):
        return True
    if isinstance(error, exceptions.ConnectionClosedByBroker | exceptions.ChannelClosedByBroker):
        return error.reply_code in (_ACCESS_REFUSED, _NOT_ALLOWED)
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    if isinstance(error, ssl.SSLError):
        return any(word in str(error).upper() for word in _CERTIFICATE_TROUBLES)
    return False


def _words(error: BaseException | None) -> str:
    if error is None:
        return "closed"
    if isinstance(error, exceptions.ConnectionClosed | exceptions.ChannelClosed):
        return f"{error.reply_code} {error.reply_text}"
    if isinstance(error, AMQPConnectorStackTimeout):
        return "the broker did not answer in time"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
