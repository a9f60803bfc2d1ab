"""Errors of brokers and of librdkafka, mapped to the errors of rambla_py."""

from __future__ import annotations

from confluent_kafka import KafkaError

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnavailableError,
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
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError._INVALID_ARG,
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
# Perhaps written, and not confirmed, because the driver has given this message up; the producer is sound.
_TIMED_OUT = frozenset(
    {
        KafkaError._MSG_TIMED_OUT,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._TRANSPORT,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError.NETWORK_EXCEPTION,
        KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    }
)
# Perhaps written, and not confirmed, because the producer cannot continue.
_PRODUCER_LOST = frozenset(
    {
        KafkaError._FATAL,
        KafkaError._DESTROY,
        # A message that waits for a retry is purged from the queue, and may have been written.
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.PRODUCER_FENCED,
    }
)
# Nothing was written, and a broker will accept messages again: replicas or leaders are away, or a quota.
_UNAVAILABLE = frozenset(
    {
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_ENOUGH_REPLICAS,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
    }
)
_PERMANENT = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
    }
)
# The broker's answers about a topic, a producer, or the time; any other may be due to one record of a batch.
_NOT_OF_A_RECORD = _REFUSED | _NOWHERE | _TIMED_OUT | _PRODUCER_LOST | _UNAVAILABLE


def report_error(error: KafkaError, *, topic: str, together: bool = False) -> DeliveryError:
    """Return our error for the report of one message; unknown errors are retried.

    ``together``: other messages may have been in its request, so that each is to be tried alone if there was
    no answer.

    >>> type(report_error(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), topic="t")).__name__
    'PermanentError'
    >>> report_error(KafkaError(KafkaError._MSG_TIMED_OUT), topic="t").connection_lost
    False
    >>> report_error(KafkaError(KafkaError.NOT_ENOUGH_REPLICAS), topic="t").scope
    'kafka topic t'
    """
    code, text = error.code(), _text(error)
    if code in _PRODUCER_LOST or error.fatal():
        return UnknownOutcomeError(f"kafka did not confirm the message: {text}")
    if code in _TIMED_OUT:
        text = f"kafka did not confirm the message: {text}"
        return UnknownOutcomeError(text, connection_lost=False, together=together)
    if code in _UNAVAILABLE:
        return UnavailableError(f"kafka cannot accept the message now: {text}", scope=f"kafka topic {topic}")
    if code in _REFUSED - {KafkaError._INVALID_ARG}:
        return AccessError(f"kafka refused access: {text}")
    if code in _NOWHERE:
        return UnroutableError(f"kafka has no topic {topic!r}, or not this partition: {text}")
    if code in _PERMANENT or code == KafkaError._INVALID_ARG:
        return PermanentError(f"kafka refused the message: {text}")
    return RejectedError(f"kafka did not accept the message: {text}")


def about_the_batch(error: KafkaError) -> bool:
    """Return whether a broker refused a whole batch, perhaps because of one message in it.

    >>> [about_the_batch(KafkaError(code)) for code in (KafkaError.POLICY_VIOLATION, KafkaError._FATAL)]
    [True, False]
    """
    code = error.code()
    from_broker = code >= KafkaError.UNKNOWN or code == KafkaError._INVALID_DIFFERENT_RECORD
    return from_broker and code not in _NOT_OF_A_RECORD and not error.fatal()


def is_refusal(error: KafkaError) -> bool:
    """Return whether an operator must act: on credentials, a certificate, a version, a setting."""
    # A failed handshake is reported as one or the other.
    if error.code() in (KafkaError._SSL, KafkaError._TRANSPORT):
        return "certificate" in error.str().lower() or "unknown ca" in error.str().lower()
    return error.code() in _REFUSED


def lost_error(error: KafkaError | None, *, where: str, during: str) -> ConnectionLostError:
    """Return our error for a connection that failed or ended; ``where`` names the brokers."""
    kind = AccessError if error is not None and is_refusal(error) else ConnectionLostError
    return kind(f"kafka at {where}: {during}: {'no answer' if error is None else _text(error)}")


def _text(error: KafkaError) -> str:
    return f"{error.name()}: {error.str()}"
