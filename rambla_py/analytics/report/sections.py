"""Tiles and tables of a report as text, for every form that shows them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from rambla_py.analytics.report.formats import (
    NOTHING,
    amount,
    count,
    megabytes,
    milliseconds,
    name_of,
    number,
    percent,
    share,
    when,
)
from rambla_py.analytics.report.model import CLASSES, Attempts, Report, Route, Traffic

__all__ = ["Bar", "Section", "Tile", "sections", "tiles"]

_CURRENCIES: Final = 6


class Tile(NamedTuple):
    """A figure that is shown large; one with several lines has one for each currency."""

    label: str
    lines: tuple[str, ...]
    note: str


class Bar(NamedTuple):
    """A bar: its label, a figure at its end, and its parts, each with what is shown when it is pointed at."""

    label: str
    figure: str
    parts: tuple[tuple[float, str], ...]


class Section(NamedTuple):
    """A table, of which the first column has names and the others numbers; it may have bars too.

    ``parts`` names the parts of a bar. A section without rows has one row of dashes.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    parts: tuple[str, ...] = ()
    bars: tuple[Bar, ...] = ()

    @property
    def shown(self) -> tuple[tuple[str, ...], ...]:
        """The rows, or one of dashes."""
        return self.rows or ((NOTHING,) * len(self.columns),)


def tiles(report: Report) -> tuple[Tile, ...]:
    """Return what a report begins with.

    >>> import datetime
    >>> at = datetime.datetime(2026, 3, 4, tzinfo=datetime.UTC)
    >>> [tile.lines for tile in tiles(Report(at, at))]
    [('0',), ('—',), ('—',), ('—',), ('—',)]
    """
    total = report.total
    paid = tuple(f"{amount(one.amount, one.currency)} {name_of(one.currency)}" for one in report.paid)
    if len(paid) > _CURRENCIES:
        paid = (*paid[: _CURRENCIES - 1], f"and {len(paid) - _CURRENCIES + 1} more currencies")
    return (
        Tile("Requests", (count(total.requests, estimated=report.estimated),), "answered"),
        Tile("Median", (milliseconds(total.p50_ms),), "p50 of all requests"),
        Tile("95th percentile", (milliseconds(total.p95_ms),), "p95 of all requests"),
        Tile("Error share", (share(total.error_share),), "answered with 5xx"),
        Tile("Paid", paid or (NOTHING,), "successful, without refunds"),
    )


def sections(report: Report) -> tuple[Section, ...]:
    """Return the tables of a report in their order; every text in them is printable."""
    return (
        _routes(report),
        _slowest(report),
        _errors(report),
        _payments(report),
        _attempts("Authentication", "Action", report.authentication),
        _attempts("Mail", "Template", report.mail),
        _calls(report),
        _processes(report),
    )


def _routes(report: Report) -> Section:
    rows = [(name_of(route.name), *_counts(route.traffic)) for route in report.routes]
    if report.other is not None:
        rows.append(("(other routes)", *_counts(report.other)))
    return Section(
        "Requests by route and class of status",
        ("Route", *CLASSES, "All"),
        tuple(rows),
        parts=CLASSES,
        bars=tuple(map(_by_class, report.routes)),
    )


def _counts(traffic: Traffic) -> tuple[str, ...]:
    return (*map(count, traffic.by_class), count(traffic.requests))


def _by_class(route: Route) -> Bar:
    parts = zip(CLASSES, route.traffic.by_class, strict=True)
    return Bar(
        name_of(route.name),
        count(route.traffic.requests),
        tuple((value, f"{count(value)} x {name}") for name, value in parts),
    )


def _slowest(report: Report) -> Section:
    return Section(
        "Slowest routes",
        ("Route", "Requests", "p50", "p95"),
        tuple(
            (name_of(route.name), count(route.traffic.requests), *_percentiles(route))
            for route in report.slowest
        ),
        parts=("p95",),
        bars=tuple(map(_by_p95, report.slowest)),
    )


def _percentiles(route: Route) -> tuple[str, str]:
    return milliseconds(route.traffic.p50_ms), milliseconds(route.traffic.p95_ms)


def _by_p95(route: Route) -> Bar:
    shown = milliseconds(route.traffic.p95_ms)
    return Bar(name_of(route.name), shown, ((route.traffic.p95_ms or 0.0, f"p95 {shown}"),))


def _errors(report: Report) -> Section:
    return Section(
        "Errors by type",
        ("Type", "Errors", "Last, UTC"),
        tuple((name_of(one.name), count(one.count), when(one.last, report)) for one in report.errors),
        parts=("errors",),
        bars=tuple(
            Bar(name_of(one.name), count(one.count), ((one.count, f"{count(one.count)} errors"),))
            for one in report.errors
        ),
    )


def _payments(report: Report) -> Section:
    rows = tuple(
        (
            name_of(one.action),
            count(one.succeeded),
            count(one.failed),
            f"{amount(one.amount, one.currency)} {name_of(one.currency)}",
        )
        for one in report.payments
    )
    return Section("Payments", ("Action", "Succeeded", "Failed", "Amount"), rows)


def _attempts(title: str, name: str, found: Iterable[Attempts]) -> Section:
    rows = tuple(
        (
            name_of(one.name),
            count(one.succeeded),
            count(one.failed),
            share(one.failed / (one.succeeded + one.failed)),
        )
        for one in found
    )
    return Section(title, (name, "Succeeded", "Failed", "Failure rate"), rows)


def _calls(report: Report) -> Section:
    rows = tuple(
        (
            name_of(one.service),
            count(one.succeeded + one.failed),
            count(one.failed),
            milliseconds(one.p50_ms),
            milliseconds(one.p95_ms),
        )
        for one in report.calls
    )
    return Section("Outgoing calls", ("Service", "Calls", "Failed", "p50", "p95"), rows)


def _processes(report: Report) -> Section:
    rows = tuple(
        (
            name_of(one.name),
            percent(one.cpu_percent),
            megabytes(one.memory_rss_bytes),
            number(one.open_files),
            number(one.threads),
            number(one.load_1m, 2),
            when(one.sampled_at, report),
        )
        for one in report.processes
    )
    return Section("System", ("Process", "CPU", "Memory", "Files", "Threads", "Load", "At, UTC"), rows)
