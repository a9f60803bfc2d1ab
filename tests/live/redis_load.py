"""This module publishes through an app to Redis without a pause while a test breaks things."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from rambla_py import Message, Outcome, Rambla, Receipt
from rambla_py.testing.processes import deadline

WAIT_S = 40.0
QUICK = {"backoff": {"initial_s": 0.02, "max_s": 0.2}, "expires_s": None}


def redis_app(
    connection: Mapping[str, Any], *, channel: Mapping[str, Any] | None = None, **options: Any
) -> Rambla:
    """Return an app with one channel, whose options are these; the default ones let nothing expire."""
    settings = {**(channel or {}), "options": {**QUICK, **options}}
    return Rambla({"redis": {"connections": {"here": dict(connection)}, "channels": {"orders": settings}}})


class Load:
    """A thread that publishes numbered messages, each with the options that ``options_of`` gives it."""

    def __init__(self, app: Rambla, options_of: Callable[[int], dict[str, Any]]) -> None:
        self.receipts: list[Receipt] = []
        self._app, self._options_of, self._over = app, options_of, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._over.wait(0.001) and len(self.receipts) < 20_000:
            for _ in range(5):
                number = len(self.receipts)
                message = Message(str(number), **self._options_of(number))
                self.receipts.append(self._app.publish("orders", message))

    def __enter__(self) -> Load:
        self._thread.start()
        until(lambda: self.done() > 100)
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(WAIT_S)

    def done(self) -> int:
        return sum(receipt.done() for receipt in self.receipts)

    def goes_on(self, more: int = 300) -> None:
        """Wait until so many messages more have an outcome, those first that have none yet."""
        waiting = list(self.receipts)
        until(lambda: all(receipt.done() for receipt in waiting))
        before = self.done()
        until(lambda: self.done() > before + more)

    def outcomes(self) -> list[Outcome]:
        return [receipt.outcomes(timeout_s=WAIT_S)[0] for receipt in self.receipts]


def until(condition: Callable[[], Any]) -> None:
    for _ in deadline(WAIT_S, poll_s=0.01):
        if condition():
            return
    raise TimeoutError


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
