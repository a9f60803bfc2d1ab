"""Kafka records of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from rambla_py.errors import PermanentError
from rambla_py.handlers._encoding import checked_utf8
from rambla_py.handlers.kafka.settings import KafkaOptions, milliseconds
from rambla_py.serialization.header_values import header_text
from rambla_py.serialization.wire_format import wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "Record", "RecordMaker", "header_value", "record_size"]

Headers = list[tuple[str, str | bytes | None]]
Record = tuple[str, bytes | None, bytes | None, int, int, Headers]
_ANY_PARTITION = -1
_OVERHEAD = 36
EVENT_PREFIX: Final = "ce_"


class RecordMaker:
    """Makes records; options that messages share are evaluated once.

    The cache is not locked, but two threads still get the right records.
    """

    __slots__ = ("_chosen", "_topic")

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._chosen: tuple[KafkaOptions | None, str, int, int] = (None, topic, _ANY_PARTITION, 0)

    def record(self, delivery: Delivery) -> Record:
        """Return topic, value, key, partition, timestamp and headers.

        Raises ``PermanentError`` for a key or a header that UTF-8 cannot encode, and what ``body()`` raises.
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
        given = wire_headers(delivery, EVENT_PREFIX, content_type="content-type")
        headers: Headers = _headers(given) if given else []
        if options.id_header:
            headers.append((options.id_header, checked_utf8(delivery.id, "id")))
        value = None if options.tombstone else delivery.body()
        return topic, value, None if key is None else checked_utf8(key, "key"), partition, timestamp, headers


def header_value(name: str, value: Any) -> bytes | None:
    r"""Return a header's value: bytes and None unchanged, strings as UTF-8, anything else as text.

    >>> header_value("tries", 3), header_value("who", "Zoë")
    (b'3', b'Zo\xc3\xab')
    """
    if value is None or isinstance(value, bytes):
        return value
    try:
        return header_text(value).encode()
    except (UnicodeEncodeError, PermanentError) as error:
        raise PermanentError(f"header {name!r}: {error}") from error


def record_size(record: Record) -> int:
    """Return a record's size in bytes as librdkafka counts it: key, headers and overhead included.

    >>> record_size(("orders", b"x" * 100, b"key", -1, 0, [("id", b"abc")]))
    146
    """
    _, value, key, _, _, headers = record
    size = _OVERHEAD + len(value or b"") + len(key or b"")
    for name, text in headers:
        size += _with_length(len(name.encode())) + _with_length(len(text or b""))
    return size


def _with_length(size: int) -> int:
    """Return the size of a string with its length before it: seven bits a byte, and one for the sign."""
    return size + max(1, -(-(size.bit_length() + 1) // 7))


def _headers(given: Mapping[str, Any]) -> Headers:
    return [
        (checked_utf8(name, "header name").decode(), header_value(name, value))
        for name, value in given.items()
    ]
