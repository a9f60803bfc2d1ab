"""This module holds what is on its way to a cluster: parts, their replies, and how many go at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rambla_py.errors import ConnectionLostError
from rambla_py.handlers.redis.routes import Part
from rambla_py.handlers.redis.urls import Node
from rambla_py.handlers.redis.wire import RedisWire

__all__ = ["Sent", "Step", "Work", "waves"]

# What is on its way at one time: a wire takes so much without being read in between, and redirections are
# followed before more is sent, so that what went to one key keeps its order.
_WAVE = 1_000
_WAVE_BYTES = 8 * 1024 * 1024


class Step(NamedTuple):
    """A part on its way: its place, and the node that another one sent it to for this once."""

    place: int
    asked: Node | None = None


class Sent(NamedTuple):
    """What was written to one node, in order, and has its replies still to come."""

    node: Node
    wire: RedisWire
    steps: Sequence[Step]


class Work:
    """The parts of a batch, and for each its reply and the node that gave it."""

    __slots__ = ("lost", "parts", "replies", "served_by")

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.lost: ConnectionLostError | None = None
        self.replies: list[Any] = [None] * len(parts)
        self.served_by: list[Node | None] = [None] * len(parts)


def waves(parts: Sequence[Part]) -> Iterator[list[int]]:
    """Yield the places of the parts, so many at a time as may be on their way together."""
    wave: list[int] = []
    size = 0
    for place, part in enumerate(parts):
        wave.append(place)
        size += len(part.command)
        if len(wave) >= _WAVE or size >= _WAVE_BYTES:
            yield wave
            wave, size = [], 0
    if wave:
        yield wave
