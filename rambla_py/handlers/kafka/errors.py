"""This module maps what librdkafka reports to the errors of rambla_py."""

from __future__ import annotations

from confluent_kafka import KafkaError

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
    UnroutableError,
)

__all__ = ["about_the_batch", "is_refusal", "lost_error", "report_error"]

_REFUSED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
_NOWHERE = frozenset(
    {
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.UNKNOWN_TOPIC_ID,
    }
)
# Written, or perhaps written, and no answer: the driver has stopped asking.
_UNANSWERED = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError._FATAL,
        KafkaError._DESTROY,
        # A message that waits for its second try is purged as one of the queue, and may have been written.
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
    }
)
_FOR_GOOD = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
        KafkaError._INVALID_ARG,
    }
)
_OF_A_BATCH = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError._INVALID_DIFFERENT_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_MSG,
    }
)


def report_error(error: KafkaError) -> DeliveryError:
    """Return what the report of one delivery means; an error nobody knows is retried.

    >>> type(report_error(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))).__name__
    'PermanentError'
    >>> type(report_error(KafkaError(KafkaError._MSG_TIMED_OUT))).__name__
    'UnknownOutcomeError'
    """
    code, text = error.code(), _text(error)
    if code in _UNANSWERED or error.fatal():
        return UnknownOutcomeError(f"kafka did not confirm the message: {text}")
    if code in _REFUSED:
        return AccessError(f"kafka refused access: {text}")
    if code in _NOWHERE:
        return UnroutableError(f"kafka has no such topic or partition: {text}")
    if code in _FOR_GOOD:
        return PermanentError(f"kafka refused the message: {text}")
    return RejectedError(f"kafka did not take the message: {text}")


def about_the_batch(error: KafkaError) -> bool:
    """Say whether a broker refused a whole batch for the sake of one message in it."""
    return error.code() in _OF_A_BATCH


def is_refusal(error: KafkaError) -> bool:
    """Say whether credentials or a certificate were refused: a person must act."""
    # What the handshake met with is reported as one or the other, as it happens.
    if error.code() in (KafkaError._SSL, KafkaError._TRANSPORT):
        return "certificate" in error.str().lower() or "unknown ca" in error.str().lower()
    return error.code() in _REFUSED


def lost_error(error: KafkaError | None, *, where: str, during: str) -> ConnectionLostError:
    """Return the error of a connection that failed or ended; ``where`` names the brokers."""
    kind = AccessError if error is not None and is_refusal(error) else ConnectionLostError
    return kind(f"kafka at {where}: {during}: {'no answer' if error is None else _text(error)}")


def _text(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"
