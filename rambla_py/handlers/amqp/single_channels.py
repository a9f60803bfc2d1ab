"""Channels that carry one message at a time, so that the broker closes each for that message only."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pika.exceptions import ChannelClosedByBroker

from rambla_py.errors import ConnectionLostError
from rambla_py.handlers.amqp.confirms import Confirms

if TYPE_CHECKING:
    from pika.channel import Channel

    from rambla_py.delivery import Delivery
    from rambla_py.handlers.amqp.encode import FrameEncoder
    from rambla_py.handlers.amqp.pika_private import PublishingConnection

__all__ = ["SingleChannels", "most_channels"]

_MOST: Final = 32
_OTHERS: Final = 4
"""Channels left to the ordinary messages, and to pings."""


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
