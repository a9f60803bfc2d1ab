"""This module says what log records about deliveries carry beside their text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["log_extra"]


def log_extra(delivery: Delivery, status: str) -> dict[str, Any]:
    """Return what a log record about a delivery carries beside its text."""
    return {
        "rambla_service": delivery.target.service,
        "rambla_channel": delivery.target.channel,
        "rambla_message_id": delivery.id,
        "rambla_attempts": delivery.attempts,
        "rambla_status": status,
    }
