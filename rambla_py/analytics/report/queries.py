"""Queries of a report: sums and percentiles."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rambla_py.analytics.report.model import (
    MONEY,
    Attempts,
    Calls,
    ErrorType,
    Paid,
    Payments,
    Process,
    Report,
    Route,
    Traffic,
)
from rambla_py.analytics.report.opening import open_database, source_of
from rambla_py.analytics.report.source import Source
from rambla_py.sql import SqlBackend

if TYPE_CHECKING:
    from rambla_py.handlers.clickhouse.reader import ClickHouseReader

__all__ = ["read_report", "report_of"]

_ROUTES: Final = 20
_SLOWEST: Final = 5
_NAMES: Final = 20
"""Types of errors, services, templates ... in a table: those that occur most."""
_SAMPLES: Final = 1_000
_REQUESTS: Final = "event_action = 'api_request'"
_SENT_BACK: Final = frozenset({"refund", "chargeback"})


def read_report(
    db: SqlBackend | ClickHouseReader, *, since_s: float = 3600.0, until: datetime.datetime | None = None
) -> Report:
    """Return the report of the last ``since_s`` seconds before ``until``, which is now by default.

    ``db`` is what ``open_database`` returns. It only reads, each table by the index on ``timestamp``. A
    sampled row counts ``1 / sample_rate``; sums of money are exact, except that those of sampled rows are
    estimates. A table that does not exist yet counts as empty. Raises ``SqlError``, or for ClickHouse another
    ``DeliveryError``, if the database cannot be read, or the tables are not those of the tracker.

    >>> report = read_report(SqlBackend("sqlite://"))
    >>> report.total.requests, report.total.error_share
    (0.0, None)
    """
    end = until or datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    begin = end - datetime.timedelta(seconds=since_s)
    source = source_of(db, begin, end)
    total, sampled = _total(source)
    routes = _routes(source, order="requests", limit=_ROUTES)
    payments, estimated = _payments(source)
    return Report(
        begin=begin,
        end=end,
        estimated=sampled or estimated,
        total=total,
        routes=routes,
        other=_other(total, routes),
        slowest=_routes(source, order="p95", limit=_SLOWEST),
        errors=_errors(source),
        payments=payments,
        paid=_paid(payments),
        authentication=_attempts(source, "authentication_events", "auth_action", "auth_success"),
        mail=_attempts(source, "email_events", "email_template", "email_success"),
        calls=_calls(source),
        processes=_processes(source),
    )


def report_of(url: str, *, since_s: float = 3600.0) -> Report:
    """Return the report of the last ``since_s`` seconds of the database with this URL; see ``read_report``.

    >>> report_of("sqlite:///missing.db").routes
    ()
    """
    db = open_database(url)
    try:
        return read_report(db, since_s=since_s)
    finally:
        db.disconnect()


# -- requests ------------------------------------------------------------------------------------

_BY_CLASS: Final = ", ".join(
    f"SUM(CASE WHEN status_code BETWEEN {digit}00 AND {digit}99 THEN weight ELSE 0 END) AS of_{digit}"
    for digit in (2, 3, 4, 5)
)


def _traffic(row: Mapping[str, Any]) -> Traffic:
    two, three, four, five = (float(row[f"of_{digit}"] or 0) for digit in (2, 3, 4, 5))
    requests = float(row["requests"] or 0)
    return Traffic(requests, (two, three, four, five), _float(row["p50"]), _float(row["p95"]))


def _total(source: Source) -> tuple[Traffic, bool]:
    sql = (
        f"SELECT SUM(weight) AS requests, {_BY_CLASS}, {source.percentiles}, MIN(sample_rate) AS lowest "
        f"FROM {source.ranked('', 'duration_ms', 'status_code')}"
    )
    for row in source.rows("api_events", sql, where=_REQUESTS):
        return _traffic(row), (row["lowest"] or 1.0) < 1.0
    return Traffic(), False


def _routes(source: Source, *, order: str, limit: int) -> tuple[Route, ...]:
    keys = f"{source.text('method')}, {source.text('path')}"
    columns = f"{source.text('method')} AS method, {source.text('path')} AS path, status_code"
    ordered = "requests DESC" if order == "requests" else "CASE WHEN p95 IS NULL THEN 1 ELSE 0 END, p95 DESC"
    sql = (
        f"SELECT * FROM (SELECT method, path, SUM(weight) AS requests, {_BY_CLASS}, {source.percentiles} "
        f"FROM {source.ranked(keys, 'duration_ms', columns)} GROUP BY method, path) routes "
        f"ORDER BY {ordered}, path, method LIMIT {limit}"
    )
    return tuple(
        Route(_name(row["method"]), _name(row["path"]), _traffic(row))
        for row in source.rows("api_events", sql, where=_REQUESTS)
    )


def _other(total: Traffic, routes: Iterable[Route]) -> Traffic | None:
    """Return the requests of the routes that are not listed; None if all are."""
    listed = [route.traffic for route in routes]
    if len(listed) < _ROUTES:
        return None
    rest = max(0.0, total.requests - sum(one.requests for one in listed))
    two, three, four, five = (
        max(0.0, all_of - sum(one.by_class[at] for one in listed)) for at, all_of in enumerate(total.by_class)
    )
    return Traffic(rest, (two, three, four, five)) if round(rest) else None


def _errors(source: Source) -> tuple[ErrorType, ...]:
    name = source.text("error_type")
    sql = (
        f"SELECT {name} AS name, SUM(weight) AS occurred, MAX(occurred_at) AS last_seen FROM {{rows}} r "
        f"GROUP BY {name} ORDER BY occurred DESC, name LIMIT {_NAMES}"
    )
    return tuple(
        ErrorType(_name(row["name"]), float(row["occurred"]), _time(row["last_seen"]))
        for row in source.rows("backend_error_events", sql)
    )


# -- money ---------------------------------------------------------------------------------------


def _payments(source: Source) -> tuple[tuple[Payments, ...], bool]:
    """Return payments by action and currency, and whether some were sampled."""
    keys = "payment_action, payment_currency, payment_success, sample_rate"
    amount, times, more = "SUM(payment_amount)", "1", ""
    if not source.exact:
        amount, times, more = "payment_amount", "COUNT(*)", ", payment_amount"
    sql = (
        f"SELECT {keys}, {amount} AS amount, {times} AS times, COUNT(*) AS n FROM {{rows}} r "
        f"GROUP BY {keys}{more}"
    )
    found: dict[tuple[str, str], Payments] = {}
    sampled = False
    for row in source.rows("payment_events", sql):
        action, currency = _name(row["payment_action"]), _name(row["payment_currency"])
        rate = Decimal(repr(float(row["sample_rate"] or 1)))
        sampled = sampled or rate < 1
        had = found.get((action, currency)) or Payments(action, currency, Decimal(0), 0.0, 0.0)
        found[action, currency] = _added(had, row, rate)
    listed = sorted(found.values(), key=lambda one: (one.currency, -one.succeeded, one.action))
    return tuple(listed), sampled


def _added(had: Payments, row: Mapping[str, Any], rate: Decimal) -> Payments:
    number = float(row["n"] / rate)
    if not row["payment_success"]:
        return msgspec.structs.replace(had, failed=had.failed + number)
    amount = MONEY.multiply(Decimal(str(row["amount"] or 0)), Decimal(row["times"]))
    if rate < 1:
        amount = MONEY.quantize(MONEY.divide(amount, rate), Decimal("1e-9"))
    total = MONEY.add(had.amount, amount)
    return msgspec.structs.replace(had, amount=total, succeeded=had.succeeded + number)


def _paid(payments: Iterable[Payments]) -> tuple[Paid, ...]:
    sums: dict[str, Decimal] = {}
    for one in payments:
        if one.action.lower() not in _SENT_BACK and one.succeeded:
            sums[one.currency] = MONEY.add(sums.get(one.currency, Decimal(0)), one.amount)
    return tuple(Paid(currency, amount) for currency, amount in sorted(sums.items()))


# -- attempts, calls, processes ------------------------------------------------------------------


def _outcomes(column: str) -> str:
    return (
        f"SUM(CASE WHEN {column} THEN weight ELSE 0 END) AS succeeded, "
        f"SUM(CASE WHEN {column} THEN 0 ELSE weight END) AS failed"
    )


def _attempts(source: Source, table: str, column: str, success: str) -> tuple[Attempts, ...]:
    name = source.text(column)
    sql = (
        f"SELECT {name} AS name, {_outcomes(success)}, SUM(weight) AS tried FROM {{rows}} r "
        f"GROUP BY {name} ORDER BY tried DESC, name LIMIT {_NAMES}"
    )
    return tuple(
        Attempts(_name(row["name"]), float(row["succeeded"]), float(row["failed"]))
        for row in source.rows(table, sql)
    )


def _calls(source: Source) -> tuple[Calls, ...]:
    name = source.text("api_service")
    sql = (
        f"SELECT service, {_outcomes('api_success')}, SUM(weight) AS tried, {source.percentiles} "
        f"FROM {source.ranked(name, 'api_duration_ms', f'{name} AS service, api_success')} "
        f"GROUP BY service ORDER BY tried DESC, service LIMIT {_NAMES}"
    )
    return tuple(
        Calls(
            _name(row["service"]),
            float(row["succeeded"]),
            float(row["failed"]),
            _float(row["p50"]),
            _float(row["p95"]),
        )
        for row in source.rows("external_api_events", sql)
    )


def _processes(source: Source) -> tuple[Process, ...]:
    """Return the newest sample of each process, among the newest samples."""
    figures = "cpu_percent, memory_rss_bytes, memory_percent, open_files, threads, load_1m"
    sql = (
        f"SELECT occurred_at AS sampled_at, context, {figures} FROM {{rows}} r "
        f"ORDER BY occurred_at DESC LIMIT {_SAMPLES}"
    )
    found: dict[str, Process] = {}
    for row in source.rows("system_performance_events", sql):
        name = _process_name(row.pop("context"))
        if name not in found:
            found[name] = Process(name, **{**row, "sampled_at": _time(row["sampled_at"])})
    return tuple(sorted(found.values(), key=lambda one: one.name)[:_NAMES])


# -- values --------------------------------------------------------------------------------------


def _process_name(context: Any) -> str:
    """Return host and process of a context, which most databases return as text.

    >>> _process_name('{"host": "web-1", "process_id": 17}'), _process_name({}), _process_name("broken")
    ('web-1 17', '', '')
    """
    if isinstance(context, str | bytes):
        try:
            context = msgspec.json.decode(context)
        except msgspec.DecodeError:
            context = None
    if not isinstance(context, dict):
        return ""
    return " ".join(str(context[key]) for key in ("host", "process_id") if context.get(key) is not None)


def _time(value: Any) -> datetime.datetime:
    if isinstance(value, int):  # milliseconds
        return datetime.datetime.fromtimestamp(value / 1_000, datetime.UTC)
    at = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.replace(tzinfo=datetime.UTC) if at.tzinfo is None else at.astimezone(datetime.UTC)


def _name(value: Any) -> str:
    return "" if value is None else str(value)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
