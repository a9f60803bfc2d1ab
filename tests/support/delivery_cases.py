"""What the tests split from test_delivery_rules share."""

from __future__ import annotations

from functools import partial
from typing import Any

from small_apps import until

from rambla_py import (
    Outcome,
    Rambla,
)


def cause_of(outcome: Outcome) -> BaseException | None:
    """Return what an outcome's error came from."""
    return None if outcome.error is None else outcome.error.__cause__


def stuck(app: Rambla, *payloads: Any) -> None:
    """Publish, one by one, what a handler holds; return once it is in flight."""
    for number, payload in enumerate(payloads, 1):
        app.publish("orders", payload)
        assert until(partial(_flies, app, number))


def _flies(app: Rambla, number: int) -> bool:
    return app.status()["probe.orders"].in_flight >= number
