"""This module is the one place that events leave from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["Event", "Events", "Kind"]

log = logging.getLogger("rambla_py.telemetry")

Kind = Literal["published", "attempt", "outcome", "worker_up", "worker_down"]


class Event(msgspec.Struct, frozen=True):
    """Something that happened: its ``kind``, where, and the fields that kind has.

    ``published``: message_id. ``attempt``: message_id, attempts, error (None when it succeeded), took_s.
    ``outcome``: outcome. ``worker_up``: worker. ``worker_down``: worker, error.
    """

    kind: Kind
    service: str
    channel: str
    data: dict[str, Any]


class Events:
    """Tells listeners what happens; costs one look at an empty tuple when nobody listens.

    A listener is called on the thread where the thing happened, and must be quick; what it raises is logged.
    """

    def __init__(self) -> None:
        self.listeners: tuple[Callable[[Event], Any], ...] = ()

    def listen(self, listener: Callable[[Event], Any]) -> Callable[[], None]:
        """Call ``listener`` with each event from now on; returns a function that ends that."""
        self.listeners = (*self.listeners, listener)

        def stop() -> None:
            self.listeners = tuple(other for other in self.listeners if other is not listener)

        return stop

    def emit(self, kind: Kind, service: str, channel: str, **data: Any) -> None:
        """Tell everyone."""
        event = Event(kind, service, channel, data)
        for listener in self.listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a telemetry listener raised on %s", kind)

    def published(self, delivery: Delivery) -> None:
        """Tell that a delivery was accepted."""
        target = delivery.target
        self.emit("published", target.service, target.channel, message_id=delivery.id)

    def attempted(self, delivery: Delivery, error: BaseException | None) -> None:
        """Tell how an attempt went."""
        target = delivery.target
        took_s = max(0.0, delivery.ended_at - delivery.started_at)
        self.emit(
            "attempt",
            target.service,
            target.channel,
            message_id=delivery.id,
            attempts=delivery.attempts,
            error=error,
            took_s=took_s,
        )

    def ended(self, delivery: Delivery) -> None:
        """Tell how a delivery ended."""
        target = delivery.target
        self.emit("outcome", target.service, target.channel, outcome=delivery.outcome())
