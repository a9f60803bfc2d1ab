"""Tests of the tracker's methods: what becomes of their arguments, and that they neither raise nor wait."""

from __future__ import annotations

import asyncio
import logging
import re
from decimal import Decimal
from typing import Any

import pytest
from analytics_cases import recorded

from rambla_py.analytics import AnalyticsError, Tracker

Call = tuple[str, tuple[Any, ...]]

CALLS: list[tuple[Call, dict[str, Any]]] = [
    (
        ("track_api_request", ("get", "/items/{id}", 200, 1.5)),
        {"event": "API Call", "method": "GET", "path": "/items/{id}", "status_code": 200, "duration_ms": 1.5},
    ),
    (
        ("track_db_connection", ("connect", 2, True)),
        {"event": "Database Connection", "connection_duration_ms": 2.0, "connection_success": True},
    ),
    (
        ("track_user_auth", ("login", 42, True)),
        {"event": "User Authentication", "auth_action": "login", "user_id": "42", "auth_success": True},
    ),
    (
        ("track_payment", ("charge", Decimal("99.90"), "usd", True)),
        {"event": "Payment Processing", "payment_amount": Decimal("99.90"), "payment_currency": "USD"},
    ),
    (
        ("track_file_operation", ("upload", "image/png", 10, False)),
        {"event": "File Operation", "file_operation": "upload", "file_size": 10, "file_success": False},
    ),
    (
        ("track_external_api_call", ("bank", "/pay", 12, True)),
        {"event": "External API Call", "api_service": "bank", "api_duration_ms": 12.0, "api_success": True},
    ),
    (("track", ("Signup",)), {"event": "Signup", "event_category": "custom", "event_action": "custom"}),
]


@pytest.mark.parametrize(("call", "fields"), CALLS, ids=lambda one: one[0] if isinstance(one, tuple) else "")
def test_arguments_become_fields(call: Call, fields: dict[str, Any]) -> None:
    """Each method makes one event of the public schema; further fields are kept in properties."""
    with recorded() as case:
        getattr(case.tracker, call[0])(*call[1], colour="red")
        event = case.event
    assert {name: event[name] for name in fields} == fields
    assert event["properties"] == {"colour": "red"}
    assert event["sample_rate"] == 1.0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["timestamp"])


def test_an_error_goes_to_two_tables_and_counts_once() -> None:
    """Both rows have one id; a channel without tables gets the table in the headers."""
    with recorded() as case:
        case.tracker.track_api_error(KeyError("total"), method="POST", path="/pay")
        records = case.records
        assert case.tracker.audit().delivered == 1
    assert sorted(record.headers["table"] for record in records) == ["api_events", "backend_error_events"]
    assert len({record.id for record in records}) == 1
    payload = records[0].payload
    assert (payload["error_type"], payload["error_message"], payload["status_code"]) == (
        "KeyError",
        "'total'",
        500,
    )


WRONG: list[tuple[str, Call]] = [
    ("status_code", ("track_api_request", ("GET", "/", "200", 1.0))),
    ("status_code", ("track_api_request", ("GET", "/", True, 1.0))),
    ("duration_ms", ("track_api_request", ("GET", "/", 200, -1.0))),
    ("duration_ms", ("track_api_request", ("GET", "/", 200, float("nan")))),
    ("method", ("track_api_request", (None, "/", 200, 1.0))),
    ("error", ("track_api_error", (5,))),
    ("query_success", ("track_db_query", ("SELECT 1", 1.0, "yes"))),
    ("payment_currency", ("track_payment", ("charge", 1, "USQ", True))),
    ("payment_amount", ("track_payment", ("charge", Decimal("NaN"), "USD", True))),
    ("payment_amount", ("track_payment", ("charge", Decimal("0.0000000001"), "USD", True))),
    ("file_size", ("track_file_operation", ("upload", "x", 1.5, True))),
    ("to", ("track_email_send", (None, "welcome", True))),
    ("event", ("track", (7,))),
]


@pytest.mark.parametrize(("field", "call"), WRONG, ids=str)
def test_a_wrong_argument_is_counted_and_does_not_raise(field: str, call: Call) -> None:
    """The reason names the field; with ``debug`` the call raises, and the error does not quote the value."""
    with recorded() as case:
        getattr(case.tracker, call[0])(*call[1])
        assert case.events == []
        audit = case.tracker.audit()
        assert (audit.tracked, audit.refused, audit.reasons) == (1, 1, {f"refused: {field}": 1})
    with recorded(debug=True) as case:
        with pytest.raises(AnalyticsError) as caught:
            getattr(case.tracker, call[0])(*call[1])
        assert caught.value.field == field
        assert case.tracker.audit().refused == 1


def test_every_method_can_be_awaited() -> None:
    """The awaitable is done already, and one object serves all of them."""

    async def main(tracker: Tracker) -> list[Any]:
        answers = [tracker.track("a"), tracker.track_payment("charge", 1, "EUR", True)]
        assert [await answer for answer in answers] == [None, None]
        assert await asyncio.gather(*answers) == [None, None]
        assert await tracker.aflush(20)
        return answers

    with recorded() as case:
        first, second = asyncio.run(main(case.tracker))
        assert len(case.events) == 2
    assert first is second


def test_debug_logs_each_event(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rambla_py.analytics"), recorded(debug=True) as case:
        case.tracker.track("Signup", plan="pro")
    assert "Signup: {'event': 'Signup'" in caplog.text


def test_a_disabled_tracker_does_nothing() -> None:
    """It needs no configuration, and counts nothing."""
    with Tracker("nonsense:", enabled=False) as tracker:
        tracker.track("a")
        tracker.track_api_error(ValueError())
        tracker.track_api_request("GET", "/", 200, 1.0)
        assert tracker.flush()
        assert tracker.audit().tracked == 0


def test_a_flush_returns_while_the_app_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kill switch of the app, events are dropped and counted."""
    monkeypatch.setenv("RAMBLA_ENABLED", "0")
    with Tracker("sqlite:///never.db") as tracker:
        tracker.track("a")
        assert tracker.flush(timeout_s=5)
        assert tracker.audit().reasons == {"disabled": 1}


def test_a_field_with_the_name_of_a_column_goes_there_if_it_fits() -> None:
    """Otherwise it stays in properties, as do other common names; ``timestamp`` is that of the event."""
    with recorded() as case:
        case.tracker.track_external_api_call(
            "bank",
            "/pay",
            1.0,
            True,
            api_status_code=201,
            user_id="u-1",
            timestamp="2024-01-15T11:30:00+01:00",
        )
        case.tracker.track_external_api_call(
            "bank", "/pay", 1.0, True, api_status_code="no", id="x", event="y", timestamp="today"
        )
        first, second = case.events
    assert (first["api_status_code"], first["user_id"], first["timestamp"], first["properties"]) == (
        201,
        "u-1",
        "2024-01-15T10:30:00.000Z",
        {},
    )
    assert second["properties"] == {"api_status_code": "no", "id": "x", "event": "y", "timestamp": "today"}
    assert second["event"] == "External API Call"


def test_an_argument_wins_over_a_field_of_its_name() -> None:
    with recorded() as case:
        case.tracker.track_payment("charge", 5, "EUR", True, payment_amount=7)
        event = case.event
    assert (event["payment_amount"], event["properties"]) == (Decimal(5), {"payment_amount": 7})


def test_an_envelope_is_an_event() -> None:
    """Names that envelopes have are fields like others; one that looks secret is masked."""
    with recorded() as case:
        case.tracker.track("a", message="hello", key="k", headers={"x": 1}, id="x")
        assert case.event["properties"] == {"message": "hello", "key": "***", "headers": {"x": 1}, "id": "x"}


def test_after_close_events_are_counted() -> None:
    with recorded() as case:
        case.tracker.close()
        case.tracker.track("late")
        case.tracker.track_api_error(ValueError("late"))
        audit = case.tracker.audit()
    assert (audit.tracked, audit.lost, audit.pending, audit.reasons) == (2, 2, 0, {"closed": 2})
