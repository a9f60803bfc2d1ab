"""What keeps the messages of a durable target, as the runtime sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.outcome import Status

__all__ = ["Durability"]


class Durability(Protocol):
    """The outbox, for one durable target.

    A durable delivery has its row in ``stored``; one that came as a fallback, and could not be stored, has
    none.
    """

    begins: bool
    """Whether ``begin`` must be called before each attempt, and not only after a crash of the process."""

    @property
    def dead_waiting(self) -> int:
        """How many fatal deliveries wait for their dead letters to be stored."""

    def prepare(self, deliveries: Sequence[LiveDelivery], givens: Sequence[Mapping[str, Any]]) -> None:
        """Make the rows of deliveries; ``givens`` are the options of their messages.

        Raises ``SerializationError`` and ``OptionError`` for what cannot be stored.
        """

    def accept(self, deliveries: Sequence[LiveDelivery], *, may_wait: bool) -> None:
        """Store the deliveries of one call, of all its durable targets, and admit them; all or none.

        Raises ``OutboxError`` or ``DuplicateIdError`` with nothing accepted.
        """

    def hand_over(
        self, origin: LiveDelivery, fallbacks: Sequence[LiveDelivery], fallback_of: str | None
    ) -> bool:
        """Store fallbacks of a delivery that has ended, and admit them; its row ends in the same transaction.

        ``fallback_of`` is the target whose list continues after these, if one does. Return False, with
        nothing changed, if they cannot be stored now.
        """

    def when_read(self, read: Callable[[], None]) -> None:
        """Call ``read``, from any thread, once what was stored so far for this process is accepted here."""

    def begin(self, deliveries: Sequence[LiveDelivery]) -> None:
        """Record that the attempts of these deliveries begin; raises ``OutboxError``."""

    def attempted(self, delivery: LiveDelivery, due: float | None) -> None:
        """Record an attempt without success; ``due``, on the monotonic clock, is when the next may begin."""

    def ended(self, deliveries: Sequence[LiveDelivery], status: Status) -> None:
        """Remove the rows of deliveries that have ended; before their receipts are settled."""

    def kept(self, delivery: LiveDelivery) -> None:
        """Leave a delivery in the outbox: the app stops before it could be delivered."""
