"""Messages as AMQP 0-9-1 frames, of which what is constant is encoded once, until they are written."""

from __future__ import annotations

import contextlib
import functools
import struct
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rambla_py.errors import ConnectionLostError, PayloadTooLargeError, PermanentError, describe
from rambla_py.handlers.amqp.properties import (
    HEADERS_FLAG,
    MESSAGE_ID_FLAG,
    constant_properties,
    header_table,
    short_string,
)
from rambla_py.handlers.amqp.settings import AmqpOptions, Properties, default_key
from rambla_py.serialization.cloudevents import BINARY
from rambla_py.serialization.wire_format import media_type, wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["EVENT_PREFIX", "Batch", "FrameEncoder", "Inbox", "SizeLimit", "publish_frame"]

_FRAME = struct.Struct(">BHI")  # type, channel, size of what follows but for the end mark
_CONTENT = struct.Struct(">BHIHHQH")  # the same, then class, weight, size of the body, flags
_METHOD, _HEADER, _BODY = 1, 2, 3
_END: Final = b"\xce"
_BASIC: Final = 60
_PUBLISH: Final = 40
_FRAME_EXTRA = _FRAME.size + len(_END)
_FIXED = 14
"""Bytes of a content header before its properties."""

_SHAPES_KEPT = 1_024
_PIECE_BYTES = 1_048_576

LARGE_BYTES: Final = 65_536
"""A larger body may be over the broker's ``max_message_size``, which the broker announces nowhere."""

EVENT_PREFIX: Final = "ce-"
"""Prefix of the attributes of a CloudEvent, by the binding for RabbitMQ."""


class SizeLimit:
    """The largest body in bytes that is sent: the one configured, or the one that the broker has named."""

    __slots__ = ("bytes", "name")

    def __init__(self, configured: int | None = None) -> None:
        self.bytes = sys.maxsize if configured is None else configured
        self.name = "max_message_bytes"

    def lower(self, limit: int, name: str) -> None:
        """Take a limit of the broker's if it is lower than what was known."""
        if limit < self.bytes:
            self.bytes, self.name = limit, name


class Batch(NamedTuple):
    """Frames to be written together, and their deliveries.

    ``largest``: size of the largest body over ``LARGE_BYTES``, or 0. ``repeated``: earlier attempts may have
    reached the broker. ``alone``: not encoded, because its channel is not known yet; it shares none.
    """

    pieces: list[bytes | memoryview]
    deliveries: Sequence[Delivery]
    largest: int = 0
    repeated: bool = False
    alone: bool = False


def publish_frame(channel_number: int, exchange: str, routing_key: str, mandatory: bool) -> bytes:
    """Return the method frame of Basic.Publish; raises ``PermanentError`` for a name over 255 bytes.

    >>> publish_frame(1, "", "paid", True).hex()
    '0100010000000d003c0028000000047061696401ce'
    """
    arguments = short_string("exchange", exchange) + short_string("routing_key", routing_key)
    payload = struct.pack(">HHH", _BASIC, _PUBLISH, 0) + arguments + (b"\x01" if mandatory else b"\x00")
    return _FRAME.pack(_METHOD, channel_number, len(payload)) + payload + _END


class _Template:
    """What all messages with the same options and kind of payload share."""

    __slots__ = (
        "before",
        "flags",
        "head",
        "headers",
        "is_event",
        "message_id",
        "second",
        "shapes",
        "shared",
        "shared_shapes",
        "table",
        "tail",
    )

    def __init__(
        self, head: bytes, properties: Properties, content_type: str, *, persistent: bool, is_event: bool
    ) -> None:
        constant = constant_properties(properties, content_type=content_type, persistent=persistent)
        self.head = head
        self.before = constant.first
        self.second = constant.second
        self.tail = constant.third
        self.flags = constant.flags | MESSAGE_ID_FLAG
        self.headers = properties.headers
        self.is_event = is_event
        given = properties.message_id
        self.message_id = None if given is None else short_string("property 'message_id'", given)[1:]
        # (size of the body, size of the id) -> what goes before the id, and after it
        self.shapes: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        # The headers of the latest message that had some, encoded with the template's, and its shapes
        self.shared: Mapping[str, Any] | None = None
        self.table = b""
        self.shared_shapes: dict[tuple[int, int], tuple[bytes, bytes]] = {}


class FrameEncoder:
    """Turns deliveries into the bytes of their frames, for one channel of one connection.

    What depends only on the options is encoded once and kept; a message like the one before it adds only its
    id, headers and sizes. ``user`` is the connection's user, which a message's ``user_id`` must equal; None
    leaves the check to the broker. A ``shared`` channel takes no delivery that must be alone. Not
    thread-safe: each thread has its own.
    """

    def __init__(
        self,
        *,
        channel_number: int = 1,
        frame_max: int = 131_072,
        limit: SizeLimit | None = None,
        user: str | None = None,
        shared: bool = False,
    ) -> None:
        self._channel_number = channel_number
        self._shared = shared
        self._fragment = frame_max - _FRAME_EXTRA
        self._limit, self._user = limit or SizeLimit(), user
        self._size = 0  # of the body that was encoded last
        self._options: AmqpOptions | None = None
        self._policy: Any = None
        self._kind: type | None = None
        self._template: Any = None
        # Bounded: a routing key may be different for each message.
        self._publish = functools.lru_cache(maxsize=256)(functools.partial(publish_frame, channel_number))

    def batches(self, deliveries: Sequence[Delivery]) -> list[Batch]:
        """Return the deliveries as batches to write, in order; one that cannot be encoded fails for good.

        A large body is a batch of its own, so that it can be written alone; so are those of later attempts.
        """
        made: list[Batch] = []
        parts: list[bytes | memoryview] = []
        accepted: list[Delivery] = []
        size, alone_over, encode, repeated = 0, LARGE_BYTES, self.encode, False
        for delivery in deliveries:
            if delivery.attempts > 1 and self._shared and delivery.alone:
                made.append(Batch([], [delivery], alone=True))
                continue
            try:
                frames = encode(delivery)
            except Exception as error:  # a serializer of the application may raise anything
                delivery.failed(_permanent(error))
                continue
            again = delivery.attempts > 1
            if size >= _PIECE_BYTES or again is not repeated or self._size > alone_over:
                made += _joined(parts, accepted, repeated=repeated)
                parts, accepted, size, repeated = [], [], 0, again
                if self._size > alone_over:
                    made += _joined(frames, [delivery], self._size, repeated=again)
                    continue
            parts += frames
            accepted.append(delivery)
            size += self._size
        made += _joined(parts, accepted, repeated=repeated)
        return made

    def encode(self, delivery: Delivery) -> tuple[bytes | memoryview, ...]:
        """Return the frames of one message, in parts to be joined.

        Raises ``PermanentError`` for what AMQP cannot hold, ``PayloadTooLargeError``, and what
        ``delivery.body()`` raises.
        """
        kind = type(delivery.payload)
        if (
            delivery.options is not self._options
            or kind is not self._kind
            or delivery.policy is not self._policy
        ):
            self._choose(delivery, kind)
        template = self._template
        body = delivery.body()
        size = self._size = len(body)
        if size > self._limit.bytes:
            raise PayloadTooLargeError(size, self._limit.bytes, self._limit.name)
        message_id = template.message_id or delivery.id.encode()
        if delivery.headers or template.headers or template.is_event:
            return self._with_headers(template, wire_headers(delivery, EVENT_PREFIX), message_id, body)
        try:
            before, after = template.shapes[size, len(message_id)]
        except KeyError:
            before, after = self._shape(template, size, len(message_id))
        if size <= self._fragment:
            return (before, message_id, after, body, _END) if size else (before, message_id, after)
        return (before, message_id, after, *self._fragments(body))

    def _choose(self, delivery: Delivery, kind: type) -> None:
        options: AmqpOptions = delivery.options
        self._check_user(options.properties.user_id)
        key = default_key(options, delivery.channel)
        head = self._publish(options.exchange, key, options.mandatory)
        content_type = media_type(delivery)
        self._template = _Template(
            head,
            options.properties,
            content_type,
            persistent=options.persistent,
            is_event=delivery.policy.serializer == BINARY,
        )
        self._options, self._policy, self._kind = options, delivery.policy, kind

    def _check_user(self, user_id: str | None) -> None:
        if user_id is not None and self._user is not None and user_id != self._user:
            raise PermanentError(
                "property 'user_id' is not the user of the connection, and RabbitMQ refuses it; "
                "set check_user_id = false on the connection if the user may impersonate others"
            )

    def _shape(self, template: _Template, size: int, id_size: int) -> tuple[bytes, bytes]:
        shape = self._around(template, template.before + template.second, template.flags, size, id_size)
        if len(template.shapes) >= _SHAPES_KEPT:
            template.shapes.clear()
        template.shapes[size, id_size] = shape
        return shape

    def _around(
        self, template: _Template, properties: bytes, flags: int, size: int, id_size: int
    ) -> tuple[bytes, bytes]:
        """Return what goes on the wire before the message id, and between it and the body."""
        if id_size > 255:
            raise PermanentError(f"property 'message_id' has {id_size} bytes; AMQP allows 255")
        header_size = _FIXED + len(properties) + 1 + id_size + len(template.tail)
        header = _CONTENT.pack(_HEADER, self._channel_number, header_size, _BASIC, 0, size, flags)
        if header_size > self._fragment:
            raise PermanentError(
                f"headers and properties have {header_size} bytes; a frame holds {self._fragment}"
            )
        after = template.tail + _END
        if 0 < size <= self._fragment:
            after += _FRAME.pack(_BODY, self._channel_number, size)
        return template.head + header + properties + bytes((id_size,)), after

    def _with_headers(
        self, template: _Template, headers: Mapping[str, Any], message_id: bytes, body: bytes
    ) -> tuple[bytes | memoryview, ...]:
        size, id_size = len(body), len(message_id)
        # Messages without headers of their own share those of their channel, or of their caller's trace,
        # which never change; those before them are dropped.
        if headers is not template.shared:
            template.table = header_table({**template.headers, **headers} if template.headers else headers)
            template.shared, template.shared_shapes = headers, {}
        shape = template.shared_shapes.get((size, id_size))
        if shape is None:
            properties = template.before + template.table + template.second
            shape = self._around(template, properties, template.flags | HEADERS_FLAG, size, id_size)
            if len(template.shared_shapes) >= _SHAPES_KEPT:
                template.shared_shapes.clear()
            template.shared_shapes[size, id_size] = shape
        before, after = shape
        if size <= self._fragment:
            return (before, message_id, after, body, _END) if size else (before, message_id, after)
        return (before, message_id, after, *self._fragments(body))

    def _fragments(self, body: bytes) -> list[bytes | memoryview]:
        view, parts = memoryview(body), list[bytes | memoryview]()
        for start in range(0, len(body), self._fragment):
            piece = view[start : start + self._fragment]
            parts += (_FRAME.pack(_BODY, self._channel_number, len(piece)), piece, _END)
        return parts


def _joined(
    parts: Sequence[bytes | memoryview], deliveries: Sequence[Delivery], largest: int = 0, *, repeated: bool
) -> Iterator[Batch]:
    if deliveries:
        # A memory view: what the socket does not take at once is then not copied.
        yield Batch([memoryview(b"".join(parts))], deliveries, largest, repeated)


def _permanent(error: Exception) -> Exception:
    """Return an error that no retry follows: encoding the same message again fails again."""
    if isinstance(error, PermanentError):
        return error
    if isinstance(error, UnicodeEncodeError):  # the other strings have been encoded by name
        failed = PermanentError("property 'message_id' cannot be encoded as UTF-8")
    else:
        failed = PermanentError(f"the message cannot be encoded: {describe(error)}")
    failed.__cause__ = error
    return failed


class Inbox:
    """Batches to be written next, and deliveries that are encoded again later.

    ``deferred`` are held back while the broker blocks publishers; ``ignored`` were written on a channel that
    the broker closed for a message before them. The worker's thread adds batches, the I/O thread takes them,
    and either may refuse everything: a deque gives each item to one thread.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self.batches: deque[Batch] = deque()
        self._deferred: deque[Sequence[Delivery]] = deque()
        self._ignored: deque[Sequence[Delivery]] = deque()

    def defer(self, others: Sequence[Delivery] = ()) -> None:
        """Hold back what is not written: its clock stands still, and it may expire or be taken back."""
        if others:
            self._link.wait(others)
            self._deferred.append(others)
        while self.batches:
            with contextlib.suppress(IndexError):
                deliveries = self.batches.popleft().deliveries
                self._link.wait(deliveries)
                self._deferred.append(deliveries)

    def resume(self, encoder: FrameEncoder) -> None:
        """Put what was held back before the batches that came since."""
        resumed: list[Batch] = []
        while self._deferred:
            with contextlib.suppress(IndexError):
                resumed += encoder.batches(self._link.begin(self._deferred.popleft()))
        self.batches.extendleft(reversed(resumed))

    def ignore(self, deliveries: Sequence[Delivery]) -> None:
        """Keep deliveries until there is a channel for them."""
        self._ignored.append(deliveries)

    def write_again(self, encoder: FrameEncoder) -> None:
        """Put what was ignored before all batches."""
        while self._ignored:
            with contextlib.suppress(IndexError):
                self.batches.extendleft(reversed(encoder.batches(self._ignored.popleft())))

    def refuse(self, where: str) -> None:
        """Fail everything: it has not reached the broker, or was ignored by it."""
        for deliveries in self._all():
            for delivery in deliveries:
                delivery.failed(ConnectionLostError(f"{where}: lost before the message was written"))

    def _all(self) -> Iterator[Sequence[Delivery]]:
        for waiting in (self._ignored, self._deferred):
            with contextlib.suppress(IndexError):
                while True:
                    yield waiting.popleft()
        with contextlib.suppress(IndexError):
            while True:
                yield self.batches.popleft().deliveries
