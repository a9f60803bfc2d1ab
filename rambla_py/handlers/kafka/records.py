"""This module turns a delivery into what the driver's ``produce`` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from rambla_py.encoding import to_json
from rambla_py.errors import PermanentError
from rambla_py.handlers.kafka.settings import KafkaOptions, milliseconds
from rambla_py.wire import wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "Record", "RecordMaker", "header_value", "record_size"]

Headers = list[tuple[str, str | bytes | None]]
Record = tuple[str, bytes | None, bytes | None, int, int, Headers]
_ANY_PARTITION = -1
_OVERHEAD = 36
EVENT_PREFIX: Final = "ce_"


class RecordMaker:
    """Makes records; what the options say is worked out once for messages that share them.

    Not thread-safe in the sense of its cache only: two threads get the right record all the same.
    """

    __slots__ = ("_chosen", "_topic")

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._chosen: tuple[KafkaOptions | None, str, int, int] = (None, topic, _ANY_PARTITION, 0)

    def record(self, delivery: Delivery) -> Record:
        """Return topic, value, key, partition, timestamp and headers.

        Raises ``PermanentError`` for a header that Kafka cannot hold, and what ``delivery.body()`` raises.
        """
        options: KafkaOptions = delivery.options
        chosen = self._chosen
        if chosen[0] is not options:
            chosen = self._chosen = (
                options,
                options.topic or self._topic,
                _ANY_PARTITION if options.partition is None else options.partition,
                milliseconds(options.timestamp),
            )
        _, topic, partition, timestamp = chosen
        key = delivery.key if options.record_key is None else options.record_key
        told = wire_headers(delivery, EVENT_PREFIX, content_type="content-type")
        headers: Headers = _headers(told) if told else []
        if options.id_header:
            headers.append((options.id_header, delivery.id.encode()))
        value = None if options.tombstone else delivery.body()
        return topic, value, None if key is None else key.encode(), partition, timestamp, headers


def header_value(name: str, value: Any) -> bytes | None:
    r"""Return a header's value: bytes as they are, text as UTF-8, None as none, anything else as JSON.

    >>> header_value("tries", 3), header_value("who", "Zoë")
    (b'3', b'Zo\xc3\xab')
    """
    if value is None or isinstance(value, bytes):
        return value
    try:
        return value.encode() if isinstance(value, str) else to_json(value)
    except (UnicodeEncodeError, PermanentError) as error:
        raise PermanentError(f"header {name!r}: {error}") from error


def record_size(record: Record) -> int:
    """Return a record's bytes as librdkafka counts them for its limit: key, headers and overhead included.

    >>> record_size(("orders", b"x" * 100, b"key", -1, 0, [("id", b"abc")]))
    146
    """
    _, value, key, _, _, headers = record
    size = _OVERHEAD + len(value or b"") + len(key or b"")
    for name, told in headers:
        size += _with_length(len(name.encode())) + _with_length(len(told or b""))
    return size


def _with_length(size: int) -> int:
    """Return the bytes of a text with its length before it: seven bits a byte, and one for the sign."""
    return size + max(1, -(-(size.bit_length() + 1) // 7))


def _headers(given: Mapping[str, Any]) -> Headers:
    return [(name, header_value(name, value)) for name, value in given.items()]
