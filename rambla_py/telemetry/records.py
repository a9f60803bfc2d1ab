"""Extra fields of log records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.telemetry.observer import ObservedTarget

__all__ = ["log_extra", "target_extra"]


def target_extra(target: ObservedTarget, worker: int | None = None) -> dict[str, Any]:
    """Return the fields of a record about a target, or about one of its workers."""
    extra: dict[str, Any] = {"rambla_service": target.service, "rambla_channel": target.channel}
    if worker is not None:
        extra["rambla_worker"] = worker
    return extra


def log_extra(delivery: LiveDelivery, status: str) -> dict[str, Any]:
    """Return the fields of a record about a delivery."""
    return {
        "rambla_service": delivery.target.service,
        "rambla_channel": delivery.target.channel,
        "rambla_message_id": delivery.id,
        "rambla_attempts": delivery.attempts,
        "rambla_status": status,
    }
