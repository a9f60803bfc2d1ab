"""A batch of messages for a cluster, as one command for each hash slot that a message touches."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.crc import key_slot

from rambla_py._internal.redis_urls import Node
from rambla_py.errors import AccessError, ConnectionLostError, DeliveryError, UnknownOutcomeError
from rambla_py.handlers._encoding import encoding_error
from rambla_py.handlers.redis.encode import (
    RedisOptions,
    encoder_for,
    pack_set,
    pairs_of,
    target_of,
    ttl_ms,
)
from rambla_py.handlers.redis.errors import KeyDeniedError

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["ClusterBatch", "Part", "Router", "Step", "denied", "merged_reply", "router_for"]

# How much is in flight at a time. A connection takes this much without a read in between, and redirections
# are followed before more is sent, so that the commands of one key keep their order.
_WAVE = 1_000
_WAVE_BYTES = 8 * 1024 * 1024


class Part(NamedTuple):
    """One command, and the hash slot of its keys."""

    slot: int
    command: bytes


class Step(NamedTuple):
    """A part in flight: its place in the batch, and the node of an ASK redirection."""

    place: int
    asked: Node | None = None


Router = Callable[["Delivery"], Sequence[Part]]


class ClusterBatch:
    """The parts of a batch; for each its reply, and the node that gave it.

    ``lost`` is the broken connection after which nothing more may be sent.
    """

    __slots__ = ("_failed", "_messages", "_spans", "lost", "parts", "replies", "served_by")

    def __init__(self, messages: Sequence[Delivery], *, channel: str, max_bulk_bytes: int) -> None:
        self.parts: list[Part] = []
        self.lost: ConnectionLostError | None = None
        self._messages = messages
        self._failed: dict[int, Exception] = {}
        self._spans: list[tuple[int, int, int]] = []
        self._pack(channel, max_bulk_bytes)
        self.replies: list[Any] = [None] * len(self.parts)
        self.served_by: list[Node | None] = [None] * len(self.parts)

    def _pack(self, channel: str, max_bulk_bytes: int) -> None:
        parts, options, route = self.parts, None, None
        for index, message in enumerate(self._messages):
            try:
                if route is None or message.options is not options:
                    options = message.options
                    route = router_for(options, channel, max_bulk_bytes)
                routed = route(message)
            except Exception as error:  # what a payload's own code raises fails its message alone
                self._failed[index] = encoding_error(error)
                continue
            self._spans.append((index, len(parts), len(parts) + len(routed)))
            parts += routed

    def waves(self) -> Iterator[list[int]]:
        """Yield the indexes of the parts that may be in flight together."""
        wave: list[int] = []
        size = 0
        for index, part in enumerate(self.parts):
            wave.append(index)
            size += len(part.command)
            if len(wave) >= _WAVE or size >= _WAVE_BYTES:
                yield wave
                wave, size = [], 0
        if wave:
            yield wave

    def results(self) -> list[Any]:
        """Return a result or an error for each message, in order."""
        found: list[Any] = [self._failed.get(index) for index in range(len(self._messages))]
        for index, first, end in self._spans:
            reply = self.replies[first] if end == first + 1 else merged_reply(self.replies[first:end])
            found[index] = (
                reply if type(reply) is not KeyDeniedError else denied(reply, self._messages[index])
            )
        return found


def denied(error: KeyDeniedError, message: Delivery) -> DeliveryError:
    """Return the error of a message whose key or topic is denied.

    An operator must act where the options name the key; a key from the payload fails its message alone.
    """
    return error if message.options.command == "set" else AccessError(str(error))


def merged_reply(replies: Sequence[Any]) -> Any:
    """Return the reply of a message with several parts: a permanent error first, then an unknown outcome."""
    errors = [reply for reply in replies if isinstance(reply, DeliveryError)]
    if not errors:
        return replies[0]
    lost = [error for error in errors if isinstance(error, ConnectionLostError)]
    if lost and len(errors) < len(replies):
        errors.append(UnknownOutcomeError(f"written in part: {lost[0]}"))
    return min(errors, key=lambda error: (error.retryable, not isinstance(error, UnknownOutcomeError)))


@functools.lru_cache(maxsize=256)
def router_for(options: RedisOptions, channel: str, max_bulk_bytes: int) -> Router:
    """Return the function that packs a message with these options, as one part or several.

    Only ``set`` of keys in several slots has several parts: one for each key. The function raises what
    ``encoder_for`` documents.
    """
    target = target_of(options, channel)
    if target is None:
        return _by_key(ttl_ms(options), max_bulk_bytes)
    slot, encode = key_slot(target), encoder_for(options, channel, max_bulk_bytes)
    return lambda message: (Part(slot, encode(message)),)


def _by_key(ttl: bytes | None, limit: int) -> Router:
    def route(message: Delivery) -> Sequence[Part]:
        pairs = pairs_of(message, "set", limit)
        slots = [key_slot(key) for key in pairs[::2]]
        if len(set(slots)) == 1:
            return (Part(slots[0], pack_set(pairs, ttl)),)
        return [Part(slot, pack_set(pairs[2 * at : 2 * at + 2], ttl)) for at, slot in enumerate(slots)]

    return route
