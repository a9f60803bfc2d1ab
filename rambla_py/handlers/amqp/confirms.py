"""Publisher confirms: what was written on a channel, and how the broker's answers settle it.

Also channels that carry one message at a time, so that the broker closes each for that message only.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from pika.exceptions import ChannelClosedByBroker
from pika.spec import Basic

from rambla_py.errors import ConnectionLostError, RejectedError, UnknownOutcomeError, UnroutableError
from rambla_py.handlers.amqp.encode import LARGE_BYTES, Batch
from rambla_py.handlers.amqp.errors import refusal
from rambla_py.handlers.amqp.settings import AmqpOptions, default_key

if TYPE_CHECKING:
    from pika.channel import Channel

    from rambla_py.delivery import Delivery
    from rambla_py.handlers.amqp.encode import FrameEncoder
    from rambla_py.handlers.amqp.pika_private import PublishingConnection

__all__ = ["ClosedChannel", "ConfirmLedger", "Confirms", "SingleChannels", "most_channels"]

log = logging.getLogger("rambla_py.handlers.amqp")

_MOST: Final = 32
_OTHERS: Final = 4
"""Channels left to the ordinary messages, and to pings."""

T = TypeVar("T")


class ClosedChannel(NamedTuple):
    """What the broker's reply says: its size ``limit`` in bytes, and whether messages were ``named``.

    ``ignored`` are those that came after the first one named, in order.
    """

    limit: int | None
    named: bool
    ignored: Sequence[Delivery]


class Confirms:
    """What was written on one channel and awaits a confirm, or the socket.

    A large body over every size that the broker has confirmed so far is written alone: if the broker closes
    the channel for its size, no other message shares its fate. Nothing new follows messages that the broker
    may have already, until they are confirmed: if it closed the channel for what follows, they would come a
    third time.

    Not thread-safe: it belongs to the I/O thread.
    """

    def __init__(self, configured: AmqpOptions | None = None, extra: dict[str, Any] | None = None) -> None:
        self._extra = extra
        self._configured = AmqpOptions() if configured is None else configured
        self._ledger: ConfirmLedger[Delivery] = ConfirmLedger()
        self._unwritten: deque[tuple[int, Sequence[Delivery]]] = deque()
        self._proven = LARGE_BYTES
        self._alone = 0  # size of the body that was written alone and is not confirmed yet
        self._repeated = False
        self._returned = 0

    def __repr__(self) -> str:
        return f"Confirms({len(self._ledger)} unconfirmed, {len(self._unwritten)} batches unwritten)"

    def may_write(self, batch: Batch) -> bool:
        """Return whether a batch may be written now, or has to wait until nothing is unconfirmed."""
        if not len(self._ledger):
            self._repeated = False
            return True
        if batch.alone:
            return True
        return not (self._alone or batch.largest > self._proven or (self._repeated and not batch.repeated))

    def await_confirm(self, batch: Batch) -> None:
        """Record what is written next, in confirm mode."""
        self._ledger.add(batch.deliveries)
        self._repeated = self._repeated or batch.repeated
        if batch.largest > self._proven:
            self._alone = batch.largest

    def await_write(self, deliveries: Sequence[Delivery], until: int) -> None:
        """Record what is ok as soon as the socket has taken ``until`` bytes in all."""
        self._unwritten.append((until, deliveries))

    @property
    def unconfirmed(self) -> int:
        """How many messages await a confirm."""
        return len(self._ledger)

    @property
    def unwritten(self) -> bool:
        """Whether something waits for the socket."""
        return bool(self._unwritten)

    def on_written(self, written: int) -> None:
        """Settle what lies within the first ``written`` bytes of the connection."""
        while self._unwritten and self._unwritten[0][0] <= written:
            for delivery in self._unwritten.popleft()[1]:
                delivery.ok()

    def on_ack(self, tag: int, multiple: bool) -> None:
        """Settle as ok; a message that was returned before is settled already."""
        for delivery in self._ledger.take(tag, multiple=multiple):
            delivery.ok()
        if self._alone:
            self._prove()

    def on_confirm(self, frame: Any) -> None:
        """Handle a Basic.Ack or Basic.Nack that pika parsed."""
        method = frame.method
        if isinstance(method, Basic.Ack):
            self.on_ack(method.delivery_tag, method.multiple)
            return
        for delivery in self._ledger.take(method.delivery_tag, multiple=method.multiple):
            delivery.failed(RejectedError("the broker refused the message (basic.nack)"))
        self._prove()

    def on_return(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Settle a message that no queue took as failed; the broker returns it before it confirms it."""
        where = f"exchange {method.exchange!r}, routing key {method.routing_key!r}"
        reason = f"the broker returned the message: {method.reply_code} {method.reply_text}: {where}"
        delivery = self._ledger.find(lambda waiting: _is_same(waiting, method, properties, body))
        if delivery is not None:
            delivery.failed(UnroutableError(reason))
            self._prove()
            return
        self._returned += 1
        if str(self._returned).strip("0") == "1":  # log the 1st, 10th, 100th ...
            text = "%s; it was counted as ok (%d so far)"
            log.warning(text, reason, self._returned, extra=self._extra)

    def on_channel_closed(self, reason: BaseException) -> ClosedChannel:
        """Settle the messages that the reply identifies; return what it says about the others.

        The broker has ignored what came after the first of them. What came before is in doubt.
        """
        alone = len(self._ledger) == 1
        limit, named = None, False
        ignored: list[Delivery] = []
        for delivery in self._ledger:
            error = refusal(reason, delivery, alone=alone, configured=self._configured)
            if error is not None:
                delivery.failed(error)  # settled again as unknown later, which is ignored
                limit = getattr(error, "limit", limit)
                named = True
            elif named:
                ignored.append(delivery)
        return ClosedChannel(limit, named, ignored)

    def restart(self, error: BaseException, ignored: Sequence[Delivery]) -> None:
        """Begin again on a new channel: what was in flight is unknown, except for what the broker ignored.

        Any of them may have closed the channel, or none, and each is sent alone next.
        """
        left = set(map(id, ignored))
        doubtful = [one for one in self._ledger if id(one) not in left]
        self._ledger = ConfirmLedger()
        self._alone, self._repeated = 0, False
        unknown = UnknownOutcomeError(str(error), connection_lost=False, together=True)
        for delivery in reversed(doubtful):  # each goes back to the head of the mailbox
            delivery.failed(unknown)

    def on_lost(self, error: BaseException | None) -> None:
        """Settle everything that is left as unknown."""
        rest = [*self._ledger.take_all(), *(one for _, some in self._unwritten for one in some)]
        self._unwritten.clear()
        for delivery in rest:
            delivery.unknown(str(error))
        if self._returned > 1:
            text = "%d messages that were counted as ok were returned by the broker"
            log.warning(text, self._returned, extra=self._extra)

    def _prove(self) -> None:
        """Accept the size of the body that was alone: the broker checks sizes before anything else."""
        if not len(self._ledger):
            self._proven, self._alone = max(self._proven, self._alone), 0


class ConfirmLedger(Generic[T]):
    """Numbers what is published as the broker does, from 1 on, and returns it by its delivery tag.

    >>> ledger = ConfirmLedger()
    >>> ledger.add(["a", "b", "c"])
    >>> ledger.take(2, multiple=True), ledger.take(3, multiple=False), ledger.take(3, multiple=False)
    (['a', 'b'], ['c'], [])
    """

    __slots__ = ("_first", "_next", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, T] = {}
        self._first = self._next = 1  # nothing below the first is waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[T]:
        return iter(self._waiting.values())

    def __repr__(self) -> str:
        return f"ConfirmLedger({len(self._waiting)} waiting, next tag {self._next})"

    def add(self, items: Iterable[T]) -> None:
        """Record what was published, in the order of the wire."""
        tag = self._next
        for item in items:
            self._waiting[tag] = item
            tag += 1
        self._next = tag

    def take(self, tag: int, *, multiple: bool) -> list[T]:
        """Return, once, what the broker answered for; ``multiple``: all up to the tag, or all for tag 0."""
        waiting, first = self._waiting, self._first
        if multiple:
            end = min(tag + 1, self._next) if tag else self._next
            taken = [waiting.pop(at) for at in range(first, end) if at in waiting]
            self._first = max(first, end)
            return taken
        if tag not in waiting:
            return []
        item = waiting.pop(tag)
        while first < self._next and first not in waiting:
            first += 1
        self._first = first
        return [item]

    def find(self, wanted: Callable[[T], bool]) -> T | None:
        """Remove and return the oldest that is wanted, or None."""
        for tag, item in self._waiting.items():
            if wanted(item):
                del self._waiting[tag]
                return item
        return None

    def take_all(self) -> list[T]:
        """Return all that waits, the oldest first; nothing waits afterwards."""
        return self.take(0, multiple=True)


def _is_same(delivery: Delivery, method: Any, properties: Any, body: bytes) -> bool:
    options = delivery.options
    return bool(
        options.exchange == method.exchange
        and default_key(options, delivery.channel) == method.routing_key
        and (options.properties.message_id or delivery.id) == properties.message_id
        and delivery.body() == body
    )


def most_channels(channel_max: int) -> int:
    """Return how many of these channels a connection may have, of the number agreed on with the broker.

    >>> most_channels(2_047), most_channels(8), most_channels(1)
    (32, 4, 0)
    """
    return max(0, min(_MOST, channel_max - _OTHERS))


class _Single:
    """One channel, with its confirms."""

    __slots__ = ("channel", "confirms", "encoder")

    def __init__(self, confirms: Confirms) -> None:
        self.confirms = confirms
        self.channel: Channel
        self.encoder: FrameEncoder


class SingleChannels:
    """Publishes messages that were in doubt when the broker closed a channel without naming one.

    Each is alone on its channel until the broker has answered. Channels are opened as they are needed, at
    most ``most``, and stay open. While paused none is opened. Not thread-safe: it belongs to the I/O thread.
    """

    def __init__(
        self,
        connection: PublishingConnection,
        *,
        most: int,
        confirms: Callable[[], Confirms],
        encoder: Callable[[int], FrameEncoder],
        refused: Callable[[int | None], None],
        later: Callable[[Callable[[], None]], None],
    ) -> None:
        self._connection, self._most = connection, most
        self._new_confirms, self._new_encoder = confirms, encoder
        self._refused, self._later = refused, later
        self._waiting: deque[Delivery] = deque()
        self._all: set[_Single] = set()
        self._free: list[_Single] = []
        self._opening = 0
        self._paused = False

    def __repr__(self) -> str:
        return f"<SingleChannels {len(self._all)} open, {len(self._free)} free, {len(self._waiting)} waiting>"

    def publish(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries; each is written once a channel is free."""
        self._waiting.extend(deliveries)
        self._next()

    def pause(self, paused: bool) -> None:
        """Open no channel for now, or again."""
        self._paused = paused
        self._next()

    def take_waiting(self) -> list[Delivery]:
        """Take what is not written yet."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def on_lost(self, error: BaseException | None) -> None:
        """Settle everything that is left: the connection is gone."""
        for delivery in self.take_waiting():
            delivery.failed(ConnectionLostError(f"lost before the message was written: {error}"))
        for single in self._all:
            single.confirms.on_lost(error)

    def _next(self) -> None:
        if not self._connection.is_open:
            return
        while self._waiting and self._free:
            self._write(self._free.pop(), self._waiting.popleft())
        wanted = min(len(self._waiting) - self._opening, self._most - len(self._all) - self._opening)
        for _ in range(0 if self._paused else wanted):
            self._opening += 1
            self._connection.channel(on_open_callback=self._on_open)

    def _write(self, single: _Single, delivery: Delivery) -> None:
        batches = single.encoder.batches((delivery,))
        if not batches:  # it cannot be encoded, and has failed
            self._free.append(single)
        for batch in batches:
            single.confirms.await_confirm(batch)
            self._connection.emit(batch.pieces)

    def _on_open(self, channel: Channel) -> None:
        self._opening -= 1
        single = _Single(self._new_confirms())
        single.channel, single.encoder = channel, self._new_encoder(int(channel))
        self._all.add(single)
        channel.add_on_return_callback(single.confirms.on_return)
        channel.add_on_close_callback(lambda _, reason: self._on_closed(single, reason))
        channel.confirm_delivery(
            lambda frame: self._on_confirm(single, frame), callback=lambda _: self._on_free(single)
        )

    def _on_confirm(self, single: _Single, frame: Any) -> None:
        single.confirms.on_confirm(frame)
        self._on_free(single)

    def _on_free(self, single: _Single) -> None:
        self._free.append(single)
        self._next()

    def _on_closed(self, single: _Single, reason: BaseException) -> None:
        if not isinstance(reason, ChannelClosedByBroker):
            return  # the connection is gone, and ``on_lost`` settles what was in flight
        closed = single.confirms.on_channel_closed(reason)
        self._refused(closed.limit)
        single.confirms.restart(reason, ())
        self._all.discard(single)
        if single in self._free:
            self._free.remove(single)
        self._later(self._next)  # pika frees the channel's number only after this
