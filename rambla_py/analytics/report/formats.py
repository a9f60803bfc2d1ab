"""Figures and names as people read them."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Final

from rambla_py.analytics.report.model import MONEY, Report

__all__ = [
    "NOTHING",
    "amount",
    "count",
    "megabytes",
    "milliseconds",
    "name_of",
    "number",
    "percent",
    "period",
    "printable",
    "share",
    "span",
    "stamp",
    "when",
]

NOTHING: Final = "—"  # a dash
"""Shown where there is no figure."""

_WITHOUT_CENTS: Final = frozenset(
    [
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "UYI",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    ]
)
_WITH_MILS: Final = frozenset(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"])
_UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def printable(text: str) -> str:
    r"""Return text with control characters, and those that reorder a line, as escapes.

    >>> print(printable("a\x1b[31m b\u202e"))
    a\x1b[31m b\u202e
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def name_of(text: str) -> str:
    """Return a name that can be shown; a dash for an empty one."""
    return printable(text) or NOTHING


def count(value: float, *, estimated: bool = False) -> str:
    """Return a number of events; one that is estimated from sampled rows has a sign of it.

    >>> count(1234.0), count(19_999.6, estimated=True), count(0)
    ('1,234', '≈ 20,000', '0')
    """
    return f"{'≈ ' if estimated and value else ''}{round(value):,}"


def share(part: float | None) -> str:
    """Return a share of 1 as a percentage, never rounded to 0 or to 100 percent.

    >>> share(0.05), share(0.0004), share(0.9999), share(1.0), share(0.0), share(None)
    ('5.0 %', '< 0.1 %', '> 99.9 %', '100 %', '0 %', '—')
    """
    if part is None:
        return NOTHING
    if part in (0, 1):
        return f"{part:.0%}".replace("%", " %")
    if part < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if part > 0.999 else f"{part * 100:.1f} %"


def milliseconds(value: float | None) -> str:
    """Return a duration with three digits that matter, in seconds from 10 s on.

    >>> milliseconds(0.256), milliseconds(12.34), milliseconds(1234.6), milliseconds(12_345.0)
    ('0.26 ms', '12.3 ms', '1,235 ms', '12.3 s')
    >>> milliseconds(123_456.0), milliseconds(None)
    ('123 s', '—')
    """
    if value is None:
        return NOTHING
    figure, unit = (value, "ms") if value < 9_999.5 else (value / 1_000, "s")
    digits = 2 if figure < 9.995 else 1 if figure < 99.95 else 0
    return f"{figure:,.{digits}f} {unit}" if figure else f"0 {unit}"


def amount(value: Decimal, currency: str) -> str:
    """Return an amount of money with all of its digits, at least the currency's.

    >>> amount(Decimal("1234.500000000"), "USD"), amount(Decimal("1E+3"), "JPY")
    ('1,234.50', '1,000')
    >>> amount(Decimal("0.12345"), "EUR")
    '0.12345'
    """
    least = 0 if currency in _WITHOUT_CENTS else 3 if currency in _WITH_MILS else 2
    exponent = value.normalize(MONEY).as_tuple().exponent
    digits = max(least, -exponent) if isinstance(exponent, int) else least
    return f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """Return a percentage that was measured as such.

    >>> percent(12.345), percent(None)
    ('12.3 %', '—')
    """
    return NOTHING if value is None else f"{value:.1f} %"


def number(value: float | None, digits: int = 0) -> str:
    """Return a number; a dash for None.

    >>> number(1234), number(0.456, 2), number(None)
    ('1,234', '0.46', '—')
    """
    return NOTHING if value is None else f"{value:,.{digits}f}"


def megabytes(value: int | None) -> str:
    """Return a number of bytes in MiB.

    >>> megabytes(52_428_800), megabytes(None)
    ('50 MiB', '—')
    """
    return NOTHING if value is None else f"{value / 1_048_576:,.0f} MiB"


def stamp(at: datetime.datetime) -> str:
    """Return a time in UTC, in seconds.

    >>> stamp(datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC))
    '2026-03-04 12:00:00 UTC'
    """
    return f"{at.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def span(report: Report) -> str:
    """Return begin and end of a report in UTC, the day once if it is the same.

    >>> end = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)
    >>> span(Report(end - datetime.timedelta(hours=1), end))
    '2026-03-04, 11:00:00 to 12:00:00 UTC'
    >>> span(Report(end - datetime.timedelta(hours=24), end))
    '2026-03-03 12:00:00 to 2026-03-04 12:00:00 UTC'
    """
    begin, end = report.begin.astimezone(datetime.UTC), report.end.astimezone(datetime.UTC)
    if begin.date() == end.date():
        return f"{begin:%Y-%m-%d, %H:%M:%S} to {end:%H:%M:%S} UTC"
    return f"{begin:%Y-%m-%d %H:%M:%S} to {stamp(end)}"


def when(at: datetime.datetime, report: Report) -> str:
    """Return the time of an event in UTC, with its day if the report is longer than a day."""
    whole = report.end - report.begin > datetime.timedelta(days=1)
    return f"{at:%Y-%m-%d %H:%M:%S}" if whole else f"{at:%H:%M:%S}"


def period(report: Report) -> str:
    """Return the length of a report, in its largest whole unit.

    >>> end = datetime.datetime(2026, 3, 4, 12, tzinfo=datetime.UTC)
    >>> [period(Report(end - datetime.timedelta(seconds=s), end)) for s in (3600, 5400, 172_800)]
    ['last hour', 'last 90 minutes', 'last 2 days']
    """
    seconds = round((report.end - report.begin).total_seconds())
    name, size = next((name, size) for name, size in _UNITS if seconds % size == 0)
    times = seconds // size
    return f"last {name}" if times == 1 else f"last {times:,} {name}s"
