"""The places in which a receipt of several deliveries keeps those that have ended."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, final

import msgspec

__all__ = ["Pair", "Shape"]


class Ended(Protocol):
    """What places look at of a delivery: its place among the others."""

    @property
    def slot(self) -> int: ...


@final
class Shape(msgspec.Struct, gc=False, eq=False):
    """What a receipt of several deliveries has on top: their places, and a ticket for each that will end.

    Each takes the last ticket once it is in its place; the one that takes ticket 0 is the last.
    """

    size: int
    targets: int
    many: bool
    tickets: list[int]
    slots: list[Any]


@final
class Pair(msgspec.Struct, gc=False, eq=False):
    """What a receipt of one message to two targets has on top.

    Fields instead of a list: the garbage collector looks at lists, but not at deliveries and receipts. Lists
    were a seventh of the cost of a message to two targets.
    """

    size: ClassVar[int] = 2
    targets: ClassVar[int] = 2
    many: ClassVar[bool] = False

    first: Ended | None = None
    second: Ended | None = None

    @property
    def slots(self) -> list[Any]:
        """The two places."""
        return [self.first, self.second]

    def put(self, delivery: Ended) -> bool:
        """Put an ended delivery in its place; return whether both have ended: it may be True twice."""
        if delivery.slot == 0:
            self.first = delivery
            return self.second is not None
        self.second = delivery
        return self.first is not None
