"""Apps with one channel, ``orders``, for the live tests of brokers."""

from __future__ import annotations

from typing import Any

from rambla_py.app import Rambla

__all__ = ["app_on", "statuses"]

_QUICK = {"retries": 1, "backoff": {"initial_s": 0.01, "max_s": 0.02}}


def app_on(
    handler: str, connection: dict[str, Any], *, channel: dict[str, Any] | None = None, **options: Any
) -> Rambla:
    """Return an app with the service ``broker``, on a connection, with these options of the channel."""
    settings = {**(channel or {}), "connection": "main", "options": {**_QUICK, **options}}
    table = {"handler": handler, "connections": {"main": connection}, "channels": {"orders": settings}}
    return Rambla({"broker": table})


def statuses(app: Rambla, payloads: list[Any], **options: Any) -> list[str]:
    """Publish, and return how each ended."""
    outcomes = app.publish_many("orders", payloads, **options).outcomes(timeout_s=20)
    return [outcome.status for outcome in outcomes]
