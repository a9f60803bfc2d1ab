"""This module says what log records about deliveries carry, and puts errors into words that cannot fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["describe", "log_extra"]


def describe(error: BaseException | None) -> str:
    """Return an error as ``Type: text``; a stranger's ``__str__`` may raise, and must not take us along.

    >>> describe(ValueError("no"))
    'ValueError: no'
    """
    if error is None:
        return ""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException as second:
        text = f"(its text raised {type(second).__name__})"
    return f"{name}: {text}" if text else name


def log_extra(delivery: Delivery, status: str) -> dict[str, Any]:
    """Return what a log record about a delivery carries beside its text."""
    return {
        "rambla_service": delivery.target.service,
        "rambla_channel": delivery.target.channel,
        "rambla_message_id": delivery.id,
        "rambla_attempts": delivery.attempts,
        "rambla_status": status,
    }
