"""Delivery to NATS: to the streams of JetStream, or to current subscribers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rambla_py.described import Described
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Handler
from rambla_py.handlers.nats.connection import NatsConnection
from rambla_py.handlers.nats.encode import EVENT_PREFIX
from rambla_py.handlers.nats.preflight import look
from rambla_py.handlers.nats.settings import NatsOptions, NatsSettings

if TYPE_CHECKING:
    from nats.aio.client import Client

    from rambla_py.delivery import Delivery
    from rambla_py.handler import Preflight, Promise, State

__all__ = ["NatsHandler"]


class NatsHandler(Handler[NatsConnection, NatsOptions, NatsSettings]):
    """Publishes to JetStream with many messages in flight; each is ok once its stream has stored it.

    At least once with JetStream: the message's id is its ``Nats-Msg-Id``, and a stream drops a second message
    with the same id within its duplicate window (two minutes by default). A subject without a stream fails
    with ``UnroutableError``; a stream that is full or has no storage raises ``UnavailableError``, and its
    messages wait. The result is a ``NatsRecord``: stream, sequence number, and whether it was a duplicate.

    With ``jetstream = false`` at most once for each attempt: a message is ok once the server has processed
    it, and reaches current subscribers, if any; the result is None.

    A header holds one line: strings unchanged, anything else as JSON. A message over the server's
    ``max_payload``, headers included, is fatal without being sent. A callable payload may be async; its
    ``destination`` is the ``nats.aio.client.Client``.

    >>> NatsHandler.Options(subject="orders.paid", stream="ORDERS").jetstream
    True
    """

    Connection: ClassVar[Any] = NatsSettings
    Options: ClassVar[Any] = NatsOptions
    takes = "bytes"
    control_headers = ("Nats-*",)
    guarantee: ClassVar[str] = (
        "at least once with JetStream, and stored once within the stream's duplicate window; without it, "
        "processed by the server and delivered to current subscribers; in sequence within a worker, except "
        "failed messages"
    )

    def __init__(self, settings: NatsSettings, **where: Any) -> None:
        super().__init__(settings, **where)
        self._next = 0
        self._stores = True if self.options is None else bool(self.options.jetstream)

    @classmethod
    def promises(cls, settings: Any, options: Any) -> Promise:
        """Return ``none`` for core NATS, which stores nothing."""
        return "at least once" if options is None or options.jetstream else "none"

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``, as the CloudEvents binding for NATS requires."""
        return EVENT_PREFIX

    def describe(self, options: Any) -> Described:
        """Return the server, and the subject."""
        return Described.of(self, "nats", options.subject)

    async def connect(self) -> NatsConnection:
        """Connect to the first server that answers; after a loss, starting with the next one."""
        addresses = self.settings.addresses()
        failures: list[ConnectionLostError] = []
        for turn in range(len(addresses)):
            index = (self._next + turn) % len(addresses)
            connection = NatsConnection(addresses[index], self.settings, channel=self.channel, link=self.link)
            try:
                await connection.open(jetstream=self._stores)
            except ConnectionLostError as error:
                failures.append(error)
                continue
            self._next = index + 1
            return connection
        raise _joined(failures)

    async def close(self, connection: NatsConnection) -> None:
        """Close the connection, within a few seconds."""
        await connection.close()

    async def ping(self, connection: NatsConnection) -> None:
        """Make a round trip to the server."""
        await connection.ping()

    async def preflight(self, connection: NatsConnection, report: Preflight) -> None:
        """Look for the stream of the subject."""
        options = self.options if self.options is not None else NatsOptions()
        await look(connection.client, options, self.channel, report, self.settings.answer_timeout_s)

    def destination(self, connection: NatsConnection) -> Client:
        """Return the driver's client, for async callables."""
        return connection.client

    async def handle_deliveries(self, deliveries: Sequence[Delivery], state: State[NatsConnection]) -> None:
        """Publish all; each is settled when its stream, or the server, has answered."""
        connection = state.connection
        await (connection.store if self._stores else connection.send)(deliveries)


def _joined(failures: Sequence[ConnectionLostError]) -> ConnectionLostError:
    if len(failures) == 1:
        return failures[0]
    refused = all(isinstance(failure, AccessError) for failure in failures)
    return (AccessError if refused else ConnectionLostError)("; ".join(map(str, failures)))
