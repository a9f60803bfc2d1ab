"""The ``memory`` handler."""

from __future__ import annotations

import datetime
import decimal
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from rambla_py._internal.named_objects import Named
from rambla_py.errors import SerializationError
from rambla_py.handler import Handler, Preflight, State, per_channel
from rambla_py.serialization.cloudevents import STRUCTURED
from rambla_py.serialization.header_values import ANY_JSON
from rambla_py.serialization.wire_format import embedded, wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["MemoryHandler", "Record", "Store", "forget", "store"]

EVENT_PREFIX = "ce-"


class Record(msgspec.Struct, frozen=True):
    """A message as it was delivered. ``at`` is in seconds since the epoch; ``number`` counts per store."""

    number: int
    channel: str
    service: str
    payload: Any
    id: str
    key: str | None
    headers: dict[str, Any]
    at: float


class Store:
    """The latest messages of each channel of one connection. Thread-safe."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._numbers = itertools.count(1)
        self._kept: dict[tuple[str, str], deque[Record]] = {}
        self._removed: dict[tuple[str, str], int] = {}

    def add(self, message: Delivery, *, channel: str, service: str, at: float, max_messages: int) -> None:
        """Store a message; beyond ``max_messages``, the channel's oldest message is discarded.

        Stores the payload itself, not a copy, unless ``format`` asks for a conversion. Raises
        ``SerializationError`` if the payload cannot be converted.
        """
        policy = message.policy
        payload = message.payload
        if policy.format == "bytes":
            payload = message.body()
        elif policy.format == "object" or policy.serializer == STRUCTURED:
            payload = embedded(message)
        number = next(self._numbers)
        headers = wire_headers(message, EVENT_PREFIX)
        record = Record(number, channel, service, payload, message.id, message.key, headers, at)
        kept = self._kept.get((service, channel))
        if kept is None:
            kept = self._kept.setdefault((service, channel), deque(maxlen=max_messages))
        kept.append(record)

    def messages(
        self, channel: str | None = None, *, where: Callable[[Record], bool] = lambda record: True
    ) -> list[Record]:
        """Return the stored messages of one channel or of all, oldest first, filtered by ``where``.

        >>> Store().messages("orders", where=lambda record: record.key == "customer-7")
        []
        """
        found = [
            record
            for (_, name), kept in list(self._kept.items())
            if channel is None or name == channel
            for record in kept.copy()
            if where(record)
        ]
        return sorted(found, key=lambda record: record.number)

    def payloads(self, channel: str | None = None) -> list[Any]:
        """Return the payloads alone, oldest first."""
        return [record.payload for record in self.messages(channel)]

    def channels(self) -> list[str]:
        """Return the names of the channels with stored messages, sorted."""
        return sorted({name for (_, name), kept in list(self._kept.items()) if kept})

    def clear(self, channel: str | None = None) -> None:
        """Remove the messages of one channel or of all."""
        for (_, name), kept in list(self._kept.items()):
            if channel is None or name == channel:
                kept.clear()

    def __len__(self) -> int:
        return sum(len(kept) for kept in list(self._kept.values()))

    def __repr__(self) -> str:
        return f"<Store {self.name!r}: {len(self)} messages of {len(self.channels())} channels>"


_stores = Named(Store)


def store(name: str) -> Store:
    """Return this process's store for connections with this ``name``; creates it if necessary.

    The store outlives the app until ``forget(name)``, so that it can be read after ``stop``. Two apps share
    a store only when both configure the same name.

    >>> store("inbox") is store("inbox")
    True
    """
    return _stores.get(name)


def forget(name: str) -> None:
    """Remove the store of this name; it is freed with the last reference to it."""
    _stores.forget(name)


class MemoryHandler(Handler):
    """Keeps the latest ``max_messages`` of each channel in memory, to be queried with ``memory.store(name)``.

    Delivery: at least once into this process's memory, lost with the process; if a worker dies during a
    batch, its messages may be stored twice, with the same id. Messages are stored in the order of arrival:
    one worker keeps the order of its batches. The result is None. Workers of one app share a store; a
    callable payload receives it as ``destination``.
    """

    header_types = (*ANY_JSON, datetime.datetime, datetime.date, datetime.time, decimal.Decimal)
    guarantee = "at least once, into memory: lost with the process, the oldest beyond max_messages discarded"
    ordered = False

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
        """The store that messages go to."""

        name: Annotated[
            Annotated[str, Meta(min_length=1)] | None,
            Meta(description="the name for memory.store(name); default: a store of the app's own"),
        ] = None

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """How much is kept."""

        max_messages: Annotated[int, per_channel("maximum number of messages kept of the channel", ge=1)] = (
            10_000
        )

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``: a record keeps headers, so it keeps the attributes of a CloudEvent."""
        return EVENT_PREFIX

    def connect(self) -> Store:
        """Return the store; it cannot be lost."""
        return _stores.of(self.settings)

    def preflight(self, connection: Any, report: Preflight) -> None:
        """Report nothing: every message is accepted."""

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Store each message; one that cannot be converted to its ``format`` fails by itself."""
        kept, at = state.connection, time.time()
        answers: list[Any] = []
        for message in messages:
            try:
                kept.add(
                    message,
                    channel=state.channel,
                    service=state.service,
                    at=at,
                    max_messages=message.options.max_messages,
                )
            except SerializationError as error:
                answers.append(error)
            else:
                answers.append(None)
        return answers
