"""This module delivers to NATS: to the streams of JetStream, or to whoever listens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Handler
from rambla_py.handlers.nats.headers import EVENT_PREFIX
from rambla_py.handlers.nats.settings import NatsOptions, NatsSettings
from rambla_py.handlers.nats.wire import NatsWire

if TYPE_CHECKING:
    from nats.aio.client import Client

    from rambla_py.delivery import Delivery
    from rambla_py.handler import State

__all__ = ["NatsHandler"]


class NatsHandler(Handler):
    """Publishes to JetStream, many messages in flight at a time, each ok when its stream has it.

    At least once with JetStream: the message's id is its ``Nats-Msg-Id``, by which a stream drops what comes
    twice within its window (two minutes unless it says otherwise), so that nothing is stored twice in that
    time. A subject that no stream takes fails with ``UnroutableError``. The result is a ``NatsRecord``:
    stream, sequence number, and whether it was a duplicate.

    With ``jetstream = false`` at most once for each attempt: a message is ok when the server has taken it,
    and reaches the subscribers of that moment, if any; the result is None.

    Headers hold one line each: text as it is, anything else as JSON. A message over the server's
    ``max_payload``, headers included, is fatal before it is sent, and so is a subject that this user may not
    publish to, once the server says so. A callable payload may be async, and is given the
    ``nats.aio.client.Client``.

    >>> NatsHandler.Options(subject="orders.paid", stream="ORDERS").jetstream
    True
    """

    Connection: ClassVar[Any] = NatsSettings
    Options: ClassVar[Any] = NatsOptions
    guarantee: ClassVar[str] = (
        "at least once with JetStream, and stored once within the stream's window for duplicates; without "
        "it, taken by the server and given to the subscribers of that moment; in sequence within a worker, "
        "failed messages aside"
    )

    def __init__(self, settings: Any, **where: Any) -> None:
        super().__init__(settings, **where)
        self._next = 0
        self._stores = True if self.options is None else bool(self.options.jetstream)

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``, as the binding of CloudEvents for NATS has it."""
        return EVENT_PREFIX

    async def connect(self) -> NatsWire:
        """Connect to the first server that answers; after a loss, beginning with the one that follows."""
        urls = self.settings.all_urls()
        failures: list[ConnectionLostError] = []
        for turn in range(len(urls)):
            index = (self._next + turn) % len(urls)
            wire = NatsWire(urls[index], self.settings, channel=self.channel, link=self.link)
            try:
                await wire.open(jetstream=self._stores)
            except ConnectionLostError as error:
                failures.append(error)
                continue
            self._next = index + 1
            return wire
        raise _summed_up(failures)

    async def close(self, connection: NatsWire) -> None:
        """Close the connection; returns within a few seconds."""
        await connection.close()

    async def ping(self, connection: NatsWire) -> None:
        """Make a round trip to the server."""
        await connection.ping()

    def destination(self, connection: NatsWire) -> Client:
        """Return the driver's own client, for async callables."""
        return connection.client

    async def handle_deliveries(self, deliveries: Sequence[Delivery], state: State) -> None:
        """Send all; each is settled when its stream, or the server, has answered."""
        wire: NatsWire = state.connection
        await (wire.store if self._stores else wire.send)(deliveries)


def _summed_up(failures: Sequence[ConnectionLostError]) -> ConnectionLostError:
    if len(failures) == 1:
        return failures[0]
    refused = all(isinstance(failure, AccessError) for failure in failures)
    return (AccessError if refused else ConnectionLostError)("; ".join(map(str, failures)))
