"""Sampling: the share of the events to keep, and those that are always kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rambla_py.analytics.settings import AnalyticsSettings

__all__ = ["FAILED", "has_failed", "shares"]

FAILED = 500
"""The lowest status of HTTP that is a failure of the server."""


def shares(settings: AnalyticsSettings, sample: float | Mapping[str, float] | None) -> Callable[[str], float]:
    """Return a function for the share of the events of an action; ``sample`` wins over the settings.

    >>> shares(AnalyticsSettings(sample=0.5), {"api_request": 0.1})("api_request")
    0.1
    """
    if sample is None:
        return settings.share_of
    if isinstance(sample, Mapping):
        by_action = dict(sample)
        return lambda action: by_action.get(action, 1.0)
    return lambda action: sample


def has_failed(fields: Mapping[str, Any]) -> bool:
    """Return whether fields are those of a failure, which is always kept.

    >>> has_failed({"status_code": 503}), has_failed({"payment_success": True})
    (True, False)
    """
    status = fields.get("status_code")
    return (type(status) is int and status >= FAILED) or any(
        value is False for name, value in fields.items() if name == "success" or name.endswith("_success")
    )
