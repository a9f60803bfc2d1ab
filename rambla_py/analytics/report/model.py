"""The figures of a report."""

from __future__ import annotations

from datetime import datetime
from decimal import Context, Decimal
from typing import Final

import msgspec

__all__ = [
    "CLASSES",
    "MONEY",
    "Attempts",
    "Calls",
    "ErrorType",
    "Paid",
    "Payments",
    "Process",
    "Report",
    "Route",
    "Traffic",
]

CLASSES = ("2xx", "3xx", "4xx", "5xx")
"""The classes of status, in the order of ``Traffic.by_class``."""

MONEY: Final = Context(prec=80)
"""Arithmetic of amounts: the default context rounds to 28 digits, and amounts have 38."""


class Traffic(msgspec.Struct, frozen=True):
    """Requests: their number, the number of each class of status, and percentiles of their durations.

    Numbers are floats here and below, because a sampled row counts ``1 / sample_rate``.

    >>> Traffic(200.0, (150.0, 0.0, 40.0, 10.0), 12.0, 80.0).error_share
    0.05
    """

    requests: float = 0.0
    by_class: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    p50_ms: float | None = None
    p95_ms: float | None = None

    @property
    def error_share(self) -> float | None:
        """The share of requests that were answered with 5xx, from 0 to 1; None without requests."""
        return self.by_class[3] / self.requests if self.requests else None


class Route(msgspec.Struct, frozen=True):
    """The requests of one route."""

    method: str
    path: str
    traffic: Traffic

    @property
    def name(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}".strip()


class ErrorType(msgspec.Struct, frozen=True):
    """The errors of one class of exception."""

    name: str
    count: float
    last: datetime


class Paid(msgspec.Struct, frozen=True):
    """The sum of all successful payments in one currency, without refunds and chargebacks."""

    currency: str
    amount: Decimal


class Payments(msgspec.Struct, frozen=True):
    """Payments of one action in one currency; ``amount`` is the sum of those that succeeded."""

    action: str
    currency: str
    amount: Decimal
    succeeded: float
    failed: float


class Attempts(msgspec.Struct, frozen=True):
    """Attempts of one kind: an authentication action, a template of mail."""

    name: str
    succeeded: float
    failed: float


class Calls(msgspec.Struct, frozen=True):
    """Calls to one service."""

    service: str
    succeeded: float
    failed: float
    p50_ms: float | None
    p95_ms: float | None


class Process(msgspec.Struct, frozen=True):
    """The newest sample of one process; a figure that was not measured is None."""

    name: str
    sampled_at: datetime
    cpu_percent: float | None
    memory_rss_bytes: int | None
    memory_percent: float | None
    open_files: int | None
    threads: int | None
    load_1m: float | None


class Report(msgspec.Struct, frozen=True):
    """What happened from ``begin`` up to ``end``, both in UTC.

    ``routes`` are those with most requests, ``other`` are the requests of all further ones. ``estimated`` is
    true when a figure comes from sampled rows.
    """

    begin: datetime
    end: datetime
    estimated: bool = False
    total: Traffic = Traffic()
    routes: tuple[Route, ...] = ()
    other: Traffic | None = None
    slowest: tuple[Route, ...] = ()
    errors: tuple[ErrorType, ...] = ()
    payments: tuple[Payments, ...] = ()
    paid: tuple[Paid, ...] = ()
    authentication: tuple[Attempts, ...] = ()
    mail: tuple[Attempts, ...] = ()
    calls: tuple[Calls, ...] = ()
    processes: tuple[Process, ...] = ()
