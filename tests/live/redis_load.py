"""Publishing through an app to Redis, and what has arrived."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from load import Load

from rambla_py import Message, Rambla

QUICK = {"backoff": {"initial_s": 0.02, "max_s": 0.2}, "expires_s": None}


def redis_app(
    connection: Mapping[str, Any], *, channel: Mapping[str, Any] | None = None, **options: Any
) -> Rambla:
    """Return an app with one channel, whose options are these; the default ones let nothing expire."""
    settings = {**(channel or {}), "options": {**QUICK, **options}}
    return Rambla({"redis": {"connections": {"here": dict(connection)}, "channels": {"orders": settings}}})


def load_of(app: Rambla, options_of: Callable[[int], dict[str, Any]]) -> Load:
    """Publish numbered messages, each with the options that ``options_of`` gives it."""
    return Load(app, lambda number: Message(str(number), **options_of(number)))


def check_all_arrived(app: Rambla, load: Load, found: list[str], *, once: bool) -> None:
    """Check that each message has one outcome, which is ok, and stands where it was sent."""
    outcomes = load.outcomes()
    audit = app.audit()["redis.orders"]
    assert Counter(outcome.status for outcome in outcomes) == {"ok": len(load.receipts)}
    assert audit.balanced
    assert audit.accepted == len(outcomes)
    ways = Counter(found)
    missing = {outcome.payload for outcome in outcomes} - set(ways)
    assert not missing, f"{len(missing)} confirmed and not there"
    assert not once or max(ways.values()) == 1
