"""The reply to ``CLUSTER SLOTS``: which node serves which hash slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.crc import REDIS_CLUSTER_HASH_SLOTS as SLOTS

from rambla_py._internal.redis_urls import Node

__all__ = ["SlotMap", "gaps", "slot_map"]

SlotMap = list["Node | None"]
"""The master of each slot, or None where no node serves it."""


def slot_map(reply: Sequence[Any], answered: Node) -> SlotMap:
    """Return the slot map of a reply; a node without a host has the host of ``answered``, which replied.

    Raises ``ValueError`` for a reply of another shape.
    """
    owners: SlotMap = [None] * SLOTS
    try:
        for first, last, master, *_ in reply:
            owners[first : last + 1] = [_node(master, answered)] * (last + 1 - first)
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(f"not an answer to CLUSTER SLOTS: {error}") from error
    return owners


def gaps(owners: Sequence[Node | None]) -> list[str]:
    """Return the ranges of slots that no node serves.

    >>> gaps([None] * 3 + [Node("a", 1)] + [None])
    ['0-2', '4']
    """
    return list(_gaps(owners))


def _gaps(owners: Sequence[Node | None]) -> Iterator[str]:
    first: int | None = None
    for slot, owner in enumerate([*owners, Node("", 0)]):
        if owner is None and first is None:
            first = slot
        elif owner is not None and first is not None:
            yield str(first) if first == slot - 1 else f"{first}-{slot - 1}"
            first = None


def _node(fields: Sequence[Any], answered: Node) -> Node:
    """Read host, port, id and metadata of a node; the host ``?`` means that the cluster knows no name."""
    name, port = fields[0], int(fields[1])
    if name == b"?" and len(fields) > 3:
        extra = dict(zip(fields[3][::2], fields[3][1::2], strict=True))
        name = extra.get(b"ip")
    return Node(name.decode() if name and name != b"?" else answered.host, port)
