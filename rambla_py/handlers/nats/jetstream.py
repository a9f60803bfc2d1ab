"""Publish acknowledgements of JetStream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from rambla_py.errors import DeliveryError, PermanentError, RejectedError, UnavailableError, UnroutableError

if TYPE_CHECKING:
    from nats.aio.msg import Msg

__all__ = ["NatsRecord", "acknowledged", "stream_error"]

_NO_RESPONDERS = "503"
_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429
# The account or the server is out of resources, not one stream: insufficient resources (10023), account
# resources exceeded (10002), memory (10028), storage (10047).
_OF_THE_SERVER = frozenset({10_002, 10_023, 10_028, 10_047})
# Code 500, although it is the message's own fault: a roll-up that the stream does not allow.
_OF_THE_MESSAGE = frozenset({10_111})


class NatsRecord(msgspec.Struct, frozen=True, gc=False):
    """Where a message is, once a stream has it; ``duplicate`` if the stream had its id before."""

    stream: str
    seq: int
    duplicate: bool = False


class _StreamError(msgspec.Struct, gc=False):
    code: int = 500
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct, gc=False):
    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    error: _StreamError | None = None


_decode = msgspec.json.Decoder(_PubAck).decode


def acknowledged(message: Msg, *, subject: str, where: str) -> NatsRecord | DeliveryError:
    """Return the record in a reply to a published message, or its error."""
    if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
        return UnroutableError(
            f"no stream has the subject {subject!r}; create one that does, and check that JetStream is on"
        )
    try:
        ack = _decode(message.data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return RejectedError(f"{where}: the reply is not a JetStream acknowledgement")
    if ack.error is not None:
        return stream_error(ack.error.code, ack.error.err_code, ack.error.description, subject=subject)
    if not ack.stream:
        return RejectedError(f"{where}: the reply is not a JetStream acknowledgement: it names no stream")
    return NatsRecord(ack.stream, ack.seq, ack.duplicate)


def stream_error(code: int, err_code: int, description: str, *, subject: str) -> DeliveryError:
    """Return our error for JetStream's error about one message.

    5xx and 429 mean that the stream cannot take messages now: it is full, or has no storage. Other subjects
    may belong to another stream, so their messages are not held back. A refused roll-up (10111) is an
    exception: it is permanent.

    >>> type(stream_error(400, 10060, "expected stream does not match", subject="a")).__name__
    'PermanentError'
    >>> stream_error(503, 10077, "maximum messages exceeded", subject="orders.new").scope
    'nats subject orders.new'
    >>> stream_error(503, 10023, "insufficient resources", subject="orders.new").scope
    'target'
    """
    text = f"JetStream refused the message: {code} {description}"
    if err_code in _OF_THE_MESSAGE or (code < _SERVER_ERROR and code != _TOO_MANY_REQUESTS):
        return PermanentError(text)
    scope = "target" if err_code in _OF_THE_SERVER else f"nats subject {subject}"
    return UnavailableError(text, scope=scope)
