"""The figures of a report, on each database, beside the same figures computed in Python."""

from __future__ import annotations

import datetime
import math
import os
import random
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from event_rows import NOW, request, row, write
from sql_fixtures import KINDS

from rambla_py.analytics import TABLES, Tracker
from rambla_py.analytics.report import Report, open_database, read_report, report_of
from rambla_py.analytics.report.opening import is_clickhouse
from rambla_py.analytics.report.sections import tiles
from rambla_py.errors import DeliveryError
from rambla_py.sql import SqlBackend, SqlOptionError
from rambla_py.testing.clickhouse_server import ClickHouseServer
from rambla_py.testing.databases import DatabaseServer

Rows = list[tuple[str, dict[str, Any]]]


def _requests() -> Rows:
    """Some hundred requests with durations in random order, a few of them sampled."""
    chance = random.Random(7)
    made = [
        request(
            chance.choice(["GET", "POST"]),
            chance.choice(["/items/{id}", "/items", "/Items", "/<script>alert(1)</script>"]),
            chance.choice([200, 200, 200, 204, 302, 404, 499, 500]),
            round(chance.expovariate(1 / 50), 3),
            ago_s=chance.uniform(1, 3_500),
            sample_rate=chance.choice([1.0, 1.0, 0.25]),
        )
        for _ in range(300)
    ]
    return [*made, request("GET", "/no-duration", 200, None)]


OUTSIDE: Rows = [
    request("GET", "/too-old", 500, 9_999.0, ago_s=3_600.001),
    request("GET", "/too-new", 500, 9_999.0, ago_s=0),
    row("api_events", event_action="api_error", method="GET", path="/items", status_code=500),
]
ERRORS: Rows = [
    row("backend_error_events", error_type="KeyError", ago_s=120),
    row("backend_error_events", error_type="KeyError", ago_s=30),
    row("backend_error_events", error_type="TimeoutError", sample_rate=0.5, ago_s=10),
    row("backend_error_events", error_type="TimeoutError", ago_s=20),
]


def _payment(action: str, amount: str, currency: str, success: bool = True, rate: float = 1.0) -> Any:
    return row(
        "payment_events",
        payment_action=action,
        payment_amount=Decimal(amount),
        payment_currency=currency,
        payment_success=success,
        sample_rate=rate,
    )


PAYMENTS: Rows = [
    *[_payment("charge", "0.1", "USD") for _ in range(3)],
    _payment("charge", "9007199254740993.000000001", "USD"),
    _payment("charge", "5", "USD", success=False),
    _payment("refund", "2.50", "USD"),
    _payment("charge", "1.10", "EUR", rate=0.1),
    _payment("charge", "900", "JPY"),
]
OTHERS: Rows = [
    row("authentication_events", auth_action="login", auth_success=True),
    row("authentication_events", auth_action="login", auth_success=False, sample_rate=0.5),
    row("authentication_events", auth_action="logout", auth_success=True),
    row("email_events", email_template="welcome", email_success=True),
    row("email_events", email_template=None, email_success=False),
    *[
        row("external_api_events", api_service="bank", api_duration_ms=ms, api_success=True)
        for ms in (3.0, 1.0, 2.0)
    ],
    row("external_api_events", api_service="bank", api_duration_ms=400.0, api_success=False),
    *[
        row(
            "system_performance_events",
            ago_s=ago,
            cpu_percent=cpu,
            memory_rss_bytes=50_000_000,
            threads=7,
            context={"host": "web-1", "process_id": process},
        )
        for process, ago, cpu in [(11, 60, 1.5), (11, 5, 2.5), (12, 30, 3.5)]
    ],
]


@pytest.fixture(scope="module", params=[*KINDS, "clickhouse"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of each of the databases, with the rows above in the tables of the events."""
    if request.param == "clickhouse":
        http: ClickHouseServer = request.getfixturevalue("clickhouse")
        found = f"clickhouse:{http.url.partition(':')[2]}"
    elif request.param == "sqlite":
        found = f"sqlite:///{tmp_path_factory.mktemp('report')}/odd name #%20.db"
    else:
        server: DatabaseServer = request.getfixturevalue(f"{request.param}_server")
        found = server.url
    _drop_tables(found)
    write(found, [*_requests(), *OUTSIDE, *ERRORS, *PAYMENTS, *OTHERS])
    yield found
    _drop_tables(found)


def _drop_tables(url: str) -> None:
    for statement in (f"DROP TABLE IF EXISTS {table}" for table in TABLES):
        if is_clickhouse(url):
            request = urllib.request.Request(url.replace("clickhouse", "http"), statement.encode())
            urllib.request.urlopen(request).close()
        else:
            with SqlBackend(url) as db:
                db.execute(statement)


@pytest.fixture(scope="module")
def report(url: str) -> Report:
    db = open_database(url)
    try:
        return read_report(db, until=NOW)
    finally:
        db.disconnect()


def _weight(fields: dict[str, Any]) -> float:
    return 1 / fields["sample_rate"]


def _percentile(rows: list[dict[str, Any]], percent: int) -> float | None:
    """Return the weighted nearest-rank percentile, from the whole list of rows repeated by weight."""
    ordered = sorted(
        one["duration_ms"]
        for one in rows
        if one["duration_ms"] is not None
        for _ in range(round(_weight(one)))
    )
    return ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else None


def _share(rows: list[dict[str, Any]], digit: int) -> float:
    return sum(_weight(one) for one in rows if one["status_code"] // 100 == digit)


def test_totals_are_those_of_the_rows_of_the_period(report: Report) -> None:
    """Requests, classes and percentiles count each row by its weight; nothing outside of the period counts."""
    rows = [fields for _, fields in _requests()]
    total = report.total
    assert total.requests == sum(map(_weight, rows))
    assert total.by_class == tuple(_share(rows, digit) for digit in (2, 3, 4, 5))
    assert (total.p50_ms, total.p95_ms) == (_percentile(rows, 50), _percentile(rows, 95))
    assert total.error_share == pytest.approx(_share(rows, 5) / total.requests)
    assert report.estimated


def test_routes_are_those_of_the_rows_with_the_most_first(report: Report) -> None:
    """Each route has the figures of its own rows; names that differ in case only are different."""
    by_route = defaultdict(list)
    for _, fields in _requests():
        by_route[fields["method"], fields["path"]].append(fields)
    assert {(route.method, route.path) for route in report.routes} == set(by_route)
    for route in report.routes:
        rows = by_route[route.method, route.path]
        assert route.traffic.requests == sum(map(_weight, rows)), route
        assert route.traffic.p95_ms == _percentile(rows, 95), route
    counts = [route.traffic.requests for route in report.routes]
    assert counts == sorted(counts, reverse=True)
    assert report.other is None


def test_the_slowest_routes_are_five_by_p95(report: Report) -> None:
    """The slowest come first; a route without durations is never among them."""
    every = sorted((route.traffic.p95_ms or -1 for route in report.routes), reverse=True)
    assert [route.traffic.p95_ms for route in report.slowest] == every[:5]


def test_errors_are_counted_by_type(report: Report) -> None:
    """The most frequent first, each with the time of its last."""
    last = {"KeyError": 30, "TimeoutError": 10}
    assert [(one.name, one.count) for one in report.errors] == [("TimeoutError", 3.0), ("KeyError", 2.0)]
    assert all(one.last == NOW - datetime.timedelta(seconds=last[one.name]) for one in report.errors)


def test_money_is_added_exactly_in_each_currency(report: Report) -> None:
    """Sums are decimal, on SQLite too; a failed payment and a refund are none of what was paid."""
    assert {one.currency: one.amount for one in report.paid} == {
        "EUR": Decimal(11),
        "JPY": Decimal(900),
        "USD": Decimal("9007199254740993.300000001"),
    }
    dollars = next(one for one in report.payments if (one.action, one.currency) == ("charge", "USD"))
    assert (dollars.succeeded, dollars.failed) == (4.0, 1.0)
    refund = next(one for one in report.payments if one.action == "refund")
    assert (refund.currency, refund.amount) == ("USD", Decimal("2.5"))


def test_amounts_of_all_digits_are_added_exactly(tmp_path: Path) -> None:
    """A column holds 38 digits, 10 more than arithmetic of decimals keeps; a sampled one counts more often."""
    url = f"sqlite:///{tmp_path}/large.db"
    large = "12345678901234567890123456789.123456789"
    sampled = _payment("charge", "12345678901234567890123456789", "EUR", rate=0.5)
    write(url, [*[_payment("charge", large, "USD") for _ in range(3)], sampled])
    db = open_database(url)
    found = read_report(db, until=NOW)
    db.disconnect()
    assert {one.currency: one.amount for one in found.paid} == {
        "EUR": Decimal("24691357802469135780246913578"),
        "USD": Decimal("37037036703703703670370370367.370370367"),
    }
    (line,) = (line for tile in tiles(found) for line in tile.lines if "USD" in line)
    assert line == "37,037,036,703,703,703,670,370,370,367.370370367 USD"


def test_attempts_and_calls_are_counted_by_outcome(report: Report) -> None:
    """Authentication by action, mail by template, calls by service."""
    assert [(one.name, one.succeeded, one.failed) for one in report.authentication] == [
        ("login", 1.0, 2.0),
        ("logout", 1.0, 0.0),
    ]
    assert sorted((one.name, one.succeeded, one.failed) for one in report.mail) == [
        ("", 0.0, 1.0),
        ("welcome", 1.0, 0.0),
    ]
    (bank,) = report.calls
    assert (bank.service, bank.succeeded, bank.failed, bank.p50_ms, bank.p95_ms) == (
        "bank",
        3.0,
        1.0,
        2.0,
        400.0,
    )


def test_the_newest_sample_of_each_process_is_shown(report: Report) -> None:
    """One line a process, with what was measured last."""
    assert [(one.name, one.cpu_percent, one.threads, one.open_files) for one in report.processes] == [
        ("web-1 11", 2.5, 7, None),
        ("web-1 12", 3.5, 7, None),
    ]


def test_a_shorter_period_counts_less(url: str, report: Report) -> None:
    """Only what is inside of the period counts."""
    db = open_database(url)
    shorter = read_report(db, since_s=25, until=NOW)
    db.disconnect()
    assert [(one.name, one.count) for one in shorter.errors] == [("TimeoutError", 3.0)]
    assert 0 < shorter.total.requests < report.total.requests


def test_a_period_without_events_is_empty(url: str) -> None:
    """Tables without rows of the period give no figures, and no error."""
    db = open_database(url)
    found = read_report(db, until=NOW - datetime.timedelta(days=10))
    db.disconnect()
    assert found == Report(found.begin, found.end)


def test_what_a_tracker_records_is_reported(url: str) -> None:
    """A tracker's own events, on each database, in the last hour."""
    with Tracker(url, batch_timeout_s=0) as tracker:
        tracker.track_api_request("GET", "/now", 503, 12.5)
        tracker.track_api_error(KeyError("k"), method="GET", path="/now")
        tracker.track_payment("charge", "99.99", "USD", True)
        tracker.track_user_auth("login", "u-1", False)
        tracker.track_external_api_call("bank", "/pay", 3.5, True)
        tracker.track_system_performance()
        assert tracker.flush(timeout_s=60)
    found = report_of(url)
    assert (found.total.requests, found.total.p95_ms, found.total.error_share) == (1, 12.5, 1)
    assert [(one.name, one.count) for one in found.errors] == [("KeyError", 1)]
    assert [(one.currency, one.amount) for one in found.paid] == [("USD", Decimal("99.99"))]
    assert [(one.name, one.succeeded, one.failed) for one in found.authentication] == [("login", 0, 1)]
    assert [(one.service, one.succeeded) for one in found.calls] == [("bank", 1)]
    (process,) = found.processes
    assert process.name.endswith(str(os.getpid()))
    assert process.memory_rss_bytes


def test_more_routes_than_fit_are_added_up(tmp_path: Path) -> None:
    """Twenty routes are listed, and one line for all others, so that the columns add up."""
    url = f"sqlite:///{tmp_path}/many.db"
    write(url, [request("GET", f"/r{at}", 200 if at % 2 else 500, 1.0) for at in range(30)])
    db = open_database(url)
    found = read_report(db, until=NOW)
    db.disconnect()
    assert len(found.routes) == 20
    assert found.other is not None
    assert found.other.requests == 10
    fives = sum(route.traffic.by_class[3] for route in found.routes) + found.other.by_class[3]
    assert fives == found.total.by_class[3] == 15


def test_a_database_without_tables_is_empty(tmp_path: Path) -> None:
    """So is a file that does not exist, which is not created."""
    SqlBackend(f"sqlite:///{tmp_path}/there.db").connect().disconnect()
    for name in ("there", "missing"):
        found = report_of(f"sqlite:///{tmp_path}/{name}.db")
        assert (found.total.requests, found.total.p50_ms, found.routes, found.paid) == (0, None, (), ())
    assert not (tmp_path / "missing.db").exists()


def test_a_file_is_opened_for_reading_only(tmp_path: Path) -> None:
    """No statement of a report can change what was recorded."""
    url = f"sqlite:///{tmp_path}/there.db"
    write(url, PAYMENTS)
    db = open_database(url)
    with pytest.raises(Exception, match="readonly"):
        db.execute("delete from payment_events")
    db.disconnect()


def test_the_index_on_the_time_bounds_a_query(tmp_path: Path) -> None:
    """SQLite searches the table by its index, and does not scan it."""
    url = f"sqlite:///{tmp_path}/there.db"
    write(url, PAYMENTS)
    db = open_database(url)
    plans: list[str] = []

    class Explained(SqlBackend):
        def stream(self, sql: Any, params: Any = None, **options: Any) -> Any:
            plans.extend(one["detail"] for one in self.execute(f"explain query plan {sql}", params).data)
            return super().stream(sql, params, **options)

    explained = Explained(url)
    read_report(explained, until=NOW)
    explained.disconnect()
    db.disconnect()
    looked = [plan for plan in plans if "_events" in plan]
    assert len(looked) >= 8
    assert all("USING INDEX ix_" in plan and "timestamp>" in plan for plan in looked), looked


def test_an_event_that_clickhouse_has_twice_counts_once(clickhouse: ClickHouseServer) -> None:
    """Its tables have no keys, and a batch whose answer was lost is inserted again."""
    url = f"clickhouse:{clickhouse.url.partition(':')[2]}"
    clickhouse.query("DROP TABLE IF EXISTS api_events")
    write(url, [request("GET", "/once", 200, 1.0)])
    clickhouse.query("INSERT INTO api_events SELECT * FROM api_events")
    db = open_database(url)
    assert read_report(db, until=NOW).total.requests == 1
    db.disconnect()


def test_a_reader_of_clickhouse_changes_nothing(clickhouse: ClickHouseServer) -> None:
    """The server refuses it, and the error quotes no data."""
    db: Any = open_database(f"clickhouse:{clickhouse.url.partition(':')[2]}")
    with pytest.raises(DeliveryError, match=r"code 164|Code: 164"):
        db.rows("CREATE TABLE made (n Int8) ENGINE = Memory; --")
    db.disconnect()
    assert clickhouse.query("EXISTS TABLE made").strip() == "0"


@pytest.mark.parametrize("url", ["nonsense", "clickhouse://host/db?compress=1"])
def test_a_url_of_no_database_is_refused(url: str) -> None:
    """The error names what is expected."""
    with pytest.raises(SqlOptionError):
        open_database(url)
