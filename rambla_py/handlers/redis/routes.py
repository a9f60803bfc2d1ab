"""This module says which part of a cluster each command of a message belongs to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from rambla_py.handlers.redis.commands import (
    RedisOptions,
    encoder_for,
    pack_set,
    pairs_of,
    target_of,
    ttl_ms,
)

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["SLOTS", "Part", "Router", "router_for"]

SLOTS = REDIS_CLUSTER_HASH_SLOTS


class Part(NamedTuple):
    """One command, and the hash slot of its keys."""

    slot: int
    command: bytes


Router = Callable[["Delivery"], Sequence[Part]]


@functools.lru_cache(maxsize=256)
def router_for(options: RedisOptions, channel: str, max_bulk_bytes: int) -> Router:
    """Return the function that packs a message with these options, as one part or several.

    Only ``set`` of keys that lie in several slots has several: one for each key. It raises what
    ``encoder_for`` tells.
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
