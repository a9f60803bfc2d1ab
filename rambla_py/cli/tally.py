"""This module counts how messages ended, in memory that does not grow with their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from rambla_py.errors import DroppedError, ExpiredError
from rambla_py.outcome import Outcome
from rambla_py.receipt import Receipt

__all__ = ["Failure", "Tally"]

DISTINCT: Final = 100
"""Errors that are told apart; texts with something of each message in them would be without end."""

_STOPPED: Final = "not delivered within --timeout"
_SWEEP: Final = 4_096


class Failure(NamedTuple):
    """One kind of failure: where, how it ended, why."""

    target: str
    status: str
    error: str


class Tally:
    """Takes the receipts of messages and lets go of each when it is complete. For one thread at a time.

    ``failed`` counts the messages with a delivery that did not succeed, its fallbacks included.
    """

    def __init__(self, redact: Callable[[str], str]) -> None:
        self.failed = 0
        self.failures: Counter[Failure] = Counter()
        self._redact = redact
        self._open: list[Receipt] = []
        self._room = _SWEEP

    def add(self, receipt: Receipt) -> None:
        """Keep a receipt until it is complete."""
        self._open.append(receipt)
        if len(self._open) >= self._room:
            self.sweep()

    def sweep(self) -> int:
        """Count what is complete by now; return how many messages are not."""
        left = []
        for receipt in self._open:
            if receipt.done():
                self._take(receipt.outcomes())
            else:
                left.append(receipt)
        self._open = left
        # Twice what is pending: a sweep then costs each message two looks at most.
        self._room = max(_SWEEP, 2 * len(left))
        return len(left)

    def as_data(self) -> list[dict[str, Any]]:
        """Return the failures for JSON, the commonest first."""
        return [{**kind._asdict(), "count": count} for kind, count in self.failures.most_common()]

    def _take(self, outcomes: list[Outcome]) -> None:
        bad = [outcome.final for outcome in outcomes if not outcome.succeeded]
        self.failed += bool(bad)
        for outcome in bad:
            kind = Failure(f"{outcome.service}.{outcome.channel}", outcome.status, self._why(outcome))
            if kind not in self.failures and len(self.failures) >= DISTINCT:
                kind = kind._replace(error="other errors")
            self.failures[kind] += 1

    def _why(self, outcome: Outcome) -> str:
        error = outcome.error
        if error is None:
            return "no reason given"
        # What expired or was dropped has its last failure as the cause; elsewhere causes are the driver's.
        cause = error.__cause__ if isinstance(error, DroppedError | ExpiredError) else None
        return self._redact(_named(error) + (f", after {_named(cause)}" if cause is not None else ""))


def _named(error: BaseException) -> str:
    if isinstance(error, DroppedError):
        return _STOPPED if error.reason == "stopped" else error.reason
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
