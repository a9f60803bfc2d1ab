"""This module is the handler that keeps the latest messages in memory, to be queried."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from rambla_py.cloudevent import STRUCTURED
from rambla_py.errors import SerializationError
from rambla_py.handler import Handler, State, per_channel
from rambla_py.named import Named
from rambla_py.wire import embedded, wire_headers

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
    """The messages of one connection, the latest of each channel; may be read and written from any thread."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._numbers = itertools.count(1)
        self._kept: dict[tuple[str, str], deque[Record]] = {}
        self._removed: dict[tuple[str, str], int] = {}

    def add(self, message: Delivery, *, channel: str, service: str, at: float, max_messages: int) -> None:
        """Keep a message; the oldest of its channel goes when there are more than ``max_messages``.

        The payload itself is kept and not a copy, unless ``format`` asks for another shape. Raises
        ``SerializationError`` when it cannot be given that shape.
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
        """Return what is kept, of one channel or of all, oldest first, as far as ``where`` says yes.

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
        """Return the names of the channels that something is kept of, sorted."""
        return sorted({name for (_, name), kept in list(self._kept.items()) if kept})

    def clear(self, channel: str | None = None) -> None:
        """Forget what is kept, of one channel or of all."""
        for (_, name), kept in list(self._kept.items()):
            if channel is None or name == channel:
                kept.clear()

    def __len__(self) -> int:
        return sum(len(kept) for kept in list(self._kept.values()))

    def __repr__(self) -> str:
        return f"<Store {self.name!r}: {len(self)} messages of {len(self.channels())} channels>"


_stores = Named(Store)


def store(name: str) -> Store:
    """Return the store of the connections with this ``name``, in this process; made if there is none yet.

    It outlives the app, until ``forget(name)``, so that it can be read after ``stop``. Two apps share a
    store only when both configure the same name.

    >>> store("inbox") is store("inbox")
    True
    """
    return _stores.get(name)


def forget(name: str) -> None:
    """Let go of the store of this name; its messages go with the last one who holds it."""
    _stores.forget(name)


class MemoryHandler(Handler):
    """Keeps the latest ``max_messages`` of each channel in memory, to be queried with ``memory.store(name)``.

    Delivery: at least once into this process's memory, lost with it; a delivery whose worker died in its
    midst may be kept twice, with the same id. Order is that of arrival: one worker keeps the order of its
    batches. The result is None. Workers of one app share a store; a callable payload is given
    it as ``destination``.
    """

    guarantee = "at least once, into memory: lost with the process, the oldest beyond max_messages forgotten"
    ordered = False

    class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
        """Which store messages go to."""

        name: Annotated[
            Annotated[str, Meta(min_length=1)] | None,
            Meta(description="what memory.store(name) finds it by; none: the app's own"),
        ] = None

    class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
        """How much is kept."""

        max_messages: Annotated[int, per_channel("the most messages kept of the channel", ge=1)] = 10_000

    @classmethod
    def event_prefix(cls, options: Any) -> str | None:
        """Return ``ce-``: a record keeps headers, so it keeps the attributes of a CloudEvent."""
        return EVENT_PREFIX

    def connect(self) -> Store:
        """Return the store; there is nothing to lose."""
        return _stores.of(self.settings)

    def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
        """Keep each; one that cannot be given the shape that ``format`` asks for fails alone."""
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
