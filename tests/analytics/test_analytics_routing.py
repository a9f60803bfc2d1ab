"""Tests of rules: where events go, and what is refused when a tracker is made."""

from __future__ import annotations

from typing import Any

import pytest
from analytics_cases import recorded

from rambla_py.analytics import AnalyticsError, Tracker
from rambla_py.analytics.routing import Router
from rambla_py.analytics.settings import Rule
from rambla_py.app import Rambla
from rambla_py.errors import OptionError, UnknownChannelError

ORDERS = {"action": "order_*", "tables": ["order_events"], "columns": {"total": "numeric(38, 9)"}}


def tables(case: Any) -> list[str]:
    return [record.headers["table"] for record in case.records]


def test_rules_are_tried_in_order() -> None:
    """The first that matches decides; without one, the built-in tables do."""
    rules = [
        ORDERS,
        {"category": "business", "tables": ["business_events", "custom_events"]},
        {"action": "order_paid", "category": "shop", "tables": ["never"]},
    ]
    with recorded({"rules": rules}) as case:
        case.tracker.track("a", event_category="business", event_action="order_paid")
        case.tracker.track("b", event_category="business", event_action="refund")
        case.tracker.track("c")
        case.tracker.track_payment("charge", 1, "EUR", True)
        assert sorted(tables(case)) == [
            "business_events",
            "custom_events",
            "custom_events",
            "order_events",
            "payment_events",
        ]
        assert case.tracker.audit().delivered == 4


def test_a_rule_may_send_to_another_channel_with_options() -> None:
    """``{table}`` in an option is the name of the table."""
    rule = {
        "action": "order_*",
        "channel": "orders",
        "tables": ["o"],
        "options": {"headers": {"to": "x.{table}"}},
    }
    with recorded({"rules": [rule]}) as case:
        case.tracker.track("a", event_action="order_paid")
        case.tracker.track("b")
        records = case.records
        assert case.tracker.audit().delivered == 2
    assert {record.channel: record.headers.get("to") for record in records} == {
        "orders": "x.o",
        "analytics": None,
    }


def test_a_column_of_a_rule_takes_its_field() -> None:
    """A value that does not fit stays in properties."""
    with recorded({"rules": [ORDERS]}) as case:
        case.tracker.track("a", event_action="order_paid", total=12.5, city="Oslo")
        case.tracker.track("b", event_action="order_paid", total="much")
        first, second = case.events
    assert (str(first["total"]), first["properties"]) == ("12.5", {"city": "Oslo"})
    assert ("total" in second, second["properties"]) == (False, {"total": "much"})


def test_routes_are_remembered_up_to_a_limit() -> None:
    """Actions that come from outside do not fill the memory."""
    app = Rambla({"null": {"channels": {"analytics": {}}}})
    router = Router(app, "analytics", [Rule(action="a*", tables=["t"])])
    first = router.route("custom", "a0")
    assert router.route("custom", "a0") is first
    for number in range(10_001):
        router.route("custom", f"a{number}")
    assert router.route("custom", "a0") is first
    assert router.route("custom", "a10000") is not router.route("custom", "a10000")
    assert router.route("custom", "a10000") == first


def test_an_option_that_no_target_has_is_refused_when_the_tracker_is_made() -> None:
    with (
        pytest.raises(OptionError, match="routing_key"),
        recorded({"rules": [{"options": {"routing_key": "x"}}]}),
    ):
        pass


def test_an_unknown_channel_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownChannelError, match="orders"), recorded({"rules": [{"channel": "ordrs"}]}):
        pass
    with pytest.raises(UnknownChannelError, match="'analytics'") as caught:
        Tracker({"null": {"channels": {"analytics": {}}}}, channel="analytcs")
    assert "[sql.channels.analytcs]" in caught.value.__notes__[0]


def borrowed(**options: Any) -> Rambla:
    return Rambla(
        {
            "sql": {
                "connections": {"here": {"url": "sqlite://"}},
                "channels": {"analytics": {"connection": "here", "options": options}},
            },
            "rambla": {"analytics": {"rules": [ORDERS]}},
        }
    )


def test_a_borrowed_channel_needs_the_tables() -> None:
    """The error says what to set; a table of a rule that the channel lacks is named."""
    with pytest.raises(AnalyticsError, match=r'set tables = "rambla_py\.analytics:TABLES"'):
        Tracker(borrowed())
    with pytest.raises(AnalyticsError, match=r"sql\.analytics has no table 'order_events'"):
        Tracker(borrowed(tables="rambla_py.analytics:TABLES"))


def test_a_channel_of_several_services_counts_an_event_once() -> None:
    """It is delivered when all of them have it."""
    with Tracker(
        {"null": {"channels": {"analytics": {}}}, "memory": {"channels": {"analytics": {}}}}
    ) as tracker:
        tracker.track("a")
        tracker.track_api_error(ValueError("x"))
        assert tracker.flush(20)
        audit = tracker.audit()
    assert (audit.tracked, audit.delivered, audit.pending) == (2, 2, 0)
