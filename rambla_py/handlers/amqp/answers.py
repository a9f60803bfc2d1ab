"""This module settles deliveries by what the broker says about them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pika.spec import Basic

from rambla_py.errors import RejectedError, UnroutableError
from rambla_py.handlers.amqp.errors import as_refusal
from rambla_py.handlers.amqp.ledger import ConfirmLedger

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Answers"]

log = logging.getLogger("rambla_py.amqp")


class Answers:
    """What was written on one channel, and waits for a confirm, or for the socket to take it.

    Not thread-safe: it belongs to the I/O thread.
    """

    def __init__(self) -> None:
        self._confirms: ConfirmLedger[Delivery] = ConfirmLedger()
        self._unwritten: deque[tuple[int, Sequence[Delivery]]] = deque()
        self._returned = 0

    def __repr__(self) -> str:
        return f"Answers({len(self._confirms)} unconfirmed, {len(self._unwritten)} batches unwritten)"

    def await_confirm(self, deliveries: Sequence[Delivery]) -> None:
        """Take note of what is written next, in confirm mode."""
        self._confirms.add(deliveries)

    def await_write(self, deliveries: Sequence[Delivery], until: int) -> None:
        """Take note of what is ok as soon as the socket has taken ``until`` bytes in all."""
        self._unwritten.append((until, deliveries))

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
        """Settle as ok; a message that was returned before has been settled already."""
        for delivery in self._confirms.take(tag, multiple=multiple):
            delivery.ok()

    def on_confirm(self, frame: Any) -> None:
        """Take a Basic.Ack or Basic.Nack on pika's own road."""
        method = frame.method
        if isinstance(method, Basic.Ack):
            self.on_ack(method.delivery_tag, method.multiple)
            return
        for delivery in self._confirms.take(method.delivery_tag, multiple=method.multiple):
            delivery.failed(RejectedError("the broker refused the message (basic.nack)"))

    def on_return(self, _channel: Any, method: Any, properties: Any, body: bytes) -> None:
        """Settle a message that no queue took as failed; the broker returns it before it confirms it."""
        where = f"exchange {method.exchange!r}, routing key {method.routing_key!r}"
        told = f"the broker returned the message: {method.reply_code} {method.reply_text}: {where}"
        delivery = self._confirms.find(lambda waiting: _is_same(waiting, method, properties, body))
        if delivery is not None:
            delivery.failed(UnroutableError(told))
            return
        self._returned += 1
        if str(self._returned).strip("0") == "1":  # 1, 10, 100 ...: a flood of them is told, and makes none
            log.warning("%s; it was counted as ok (%d so far)", told, self._returned)

    def on_channel_closed(self, reason: BaseException) -> None:
        """Settle those of which the reason says that the broker did not take them."""
        alone = len(self._confirms) == 1
        for delivery in self._confirms:
            refusal = as_refusal(reason, exchange=delivery.options.exchange, alone=alone)
            if refusal is not None:
                delivery.failed(refusal)  # a second settle, as unknown, is ignored

    def on_lost(self, error: BaseException | None) -> None:
        """Settle all that is left as unknown."""
        rest = [*self._confirms.take_all(), *(one for _, some in self._unwritten for one in some)]
        self._unwritten.clear()
        for delivery in rest:
            delivery.unknown(str(error))


def _is_same(delivery: Delivery, method: Any, properties: Any, body: bytes) -> bool:
    options = delivery.options
    return bool(
        options.exchange == method.exchange
        and options.routing_key == method.routing_key
        and (options.properties.message_id or delivery.id) == properties.message_id
        and delivery.body() == body
    )
