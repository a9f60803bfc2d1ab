"""Interface of observers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.outcome import Status

__all__ = ["ConnectionState", "ObservedTarget", "Observer", "OutboxState"]

ConnectionState = Literal["up", "lost", "renewed", "failing", "down", "blocked", "abandoned"]
"""``up``: connected. ``lost``: lost while in use. ``renewed``: closed after an unexpected error, to reconnect
at once. ``failing``: a connect failed and will be retried. ``down``: access was refused, or what the target
needs did not start. ``blocked``: the backend takes no messages now. ``abandoned``: the worker was stuck in
user code and was replaced."""


OutboxState = Literal["journaled", "adopted", "dead", "lease_lost"]
"""``journaled``: stored, before ``publish`` returns. ``adopted``: taken over from a process that has ended,
or from one that only writes. ``dead``: stored as a dead letter. ``lease_lost``: delivered by this process,
and by another one that had taken over meanwhile."""


class ObservedTarget(Protocol):
    """The target that an observer is called about."""

    @property
    def name(self) -> str:
        """``service.channel``."""
        ...

    @property
    def service(self) -> str:
        """Its service."""
        ...

    @property
    def channel(self) -> str:
        """Its channel."""
        ...


class Observer(Protocol):
    """Called about deliveries and connections; every method is optional.

    Subclass it and override what you need; a method that is not overridden is never called. Methods run once
    a batch, usually on a worker's thread: be quick, do not block, and keep no delivery after the call. Times
    are on the monotonic clock, in seconds. Exceptions are logged once for each method and class; the
    observer stays attached.
    """

    def attempted(
        self,
        target: ObservedTarget,
        deliveries: Sequence[Delivery[Any]],
        started_at: float,
        ended_at: float,
        error: BaseException | None,
    ) -> None:
        """Attempts that began together have ended: with success, or with ``error`` (not redacted)."""

    def ended(self, target: ObservedTarget, deliveries: Sequence[Delivery[Any]], status: Status) -> None:
        """Deliveries ended with this status."""

    def connection(
        self, target: ObservedTarget, worker: int, state: ConnectionState, error: BaseException | None
    ) -> None:
        """The connection of a worker changed."""

    def refused(self, target: ObservedTarget, number: int) -> None:
        """``number`` publishes raised ``MailboxFullError`` because this target had no room."""

    def outbox(
        self, target: ObservedTarget, state: OutboxState, number: int, message_ids: Sequence[str]
    ) -> None:
        """``number`` messages of a durable target reached this state; ``adopted`` ones are not named."""
