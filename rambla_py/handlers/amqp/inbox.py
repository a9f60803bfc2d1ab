"""What a connection has taken and not written yet."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rambla_py.errors import ConnectionLostError

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link
    from rambla_py.handlers.amqp.encode import Batch, FrameEncoder

__all__ = ["Inbox"]


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
