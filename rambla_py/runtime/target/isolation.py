"""Suspects, and the groups in which they are retried on a connection of their own."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery

__all__ = ["LARGEST_GROUP", "SUSPECT_AFTER_LOSSES", "group_limit", "is_suspect", "next_group", "was_alone"]

SUSPECT_AFTER_LOSSES = 2
"""Number of connection losses, with a delivery in flight, that make it a suspect."""

LARGEST_GROUP = 64
"""Largest group of suspects; if one message in fifty ends the connection, half of them lose it once."""


def is_suspect(delivery: LiveDelivery) -> bool:
    """Return whether a delivery may itself be the cause of connection losses."""
    return delivery.losses >= SUSPECT_AFTER_LOSSES


def was_alone(delivery: LiveDelivery) -> bool:
    """Return whether nothing else was in flight at its last attempt, so that the loss is its own failure."""
    return delivery.history is not None and delivery.history.group == 1


def group_limit(group: int, most: int) -> int:
    """Return how many suspects may be tried together after a loss with ``group`` of them in flight.

    >>> [group_limit(group, 64) for group in (0, 64, 3, 2, 1)]
    [64, 32, 2, 1, 1]
    """
    return most if group == 0 else max(1, min(most, (group + 1) // 2))


def next_group(
    suspects: deque[LiveDelivery], waiting: Collection[LiveDelivery], most: int
) -> list[LiveDelivery]:
    """Take the next suspects to try together: those of one earlier loss, at most half of them."""
    group: list[LiveDelivery] = []
    limit, earlier = most, 0
    while suspects and len(group) < limit:
        suspect = suspects[0]
        size = suspect.history.group if suspect.history is not None else 0
        if suspect in waiting:
            if group and size != earlier:
                break
            if not group:
                earlier, limit = size, group_limit(size, most)
            group.append(suspect)
        suspects.popleft()
    for suspect in group:
        suspect.past().in_group(len(group))
    return group
