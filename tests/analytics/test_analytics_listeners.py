"""Tests of listeners: what they are called with, how often, and from which threads."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest
from analytics_cases import recorded, unreachable
from waiting import wait_until

from rambla_py.analytics import AnalyticsError, Tracker
from rambla_py.analytics.listeners import Listeners


def test_a_drop_is_reported_from_a_thread_of_the_app() -> None:
    """The mailbox is full: the newest are dropped and counted, and the call does not wait."""
    calls: list[tuple[str, int, str]] = []
    tracker = Tracker(
        unreachable(max_pending=1),
        on_drop=lambda reason, number: calls.append((reason, number, threading.current_thread().name)),
    )
    try:
        for _ in range(3):
            tracker.track("a")
        wait_until(lambda: sum(number for _, number, _ in calls) == 2)
        assert (tracker.audit().reasons, tracker.audit().pending) == ({"mailbox full": 2}, 1)
    finally:
        tracker.close(0)
    assert calls[0][0] == "mailbox full"
    assert calls[0][2] != threading.current_thread().name
    audit = tracker.audit()
    assert (audit.tracked, audit.delivered, audit.lost, audit.pending) == (3, 0, 3, 0)


def test_a_refused_event_is_an_error_and_a_drop() -> None:
    """The rest is reported at close."""
    errors: list[BaseException] = []
    drops: list[tuple[str, int]] = []
    with recorded(on_error=errors.append, on_drop=lambda *given: drops.append(given)) as case:
        for _ in range(3):
            case.tracker.track_payment("charge", 1, "USQ", True)
    assert sum(number for reason, number in drops if reason == "refused: payment_currency") == 3
    assert {type(error) for error in errors} == {AnalyticsError}


def test_listeners_can_be_added_and_removed() -> None:
    calls: list[Any] = []
    with recorded() as case:
        end = case.tracker.on("drop", lambda *given: calls.append(given))
        end()
        case.tracker.track(5)  # type: ignore[arg-type]  # what is wrong with it
    assert calls == []


def test_an_unknown_topic_is_refused() -> None:
    with recorded() as case, pytest.raises(AnalyticsError, match="did you mean 'drop'"):
        case.tracker.on("drops", print)  # type: ignore[arg-type]  # what is wrong with it


def test_calls_are_at_most_one_a_second_and_reason() -> None:
    """The first comes at once, the next with the sum of what came meanwhile."""
    wakes: list[float] = []
    calls: list[tuple[str, int]] = []
    listeners = Listeners(wakes.append)
    listeners.add("drop", lambda *given: calls.append(given))
    now = time.monotonic()
    listeners.report("a", 1, None)
    listeners.report("a", 1, None)
    assert len(wakes) == 1
    assert wakes[0] >= now
    assert listeners.call_due(wakes[0]) is None
    assert calls == [("a", 2)]
    listeners.report("a", 3, None)
    listeners.report("b", 1, None)
    assert wakes[1] == wakes[0] + 1.0
    assert listeners.call_due(wakes[1] - 0.1) == wakes[1]
    assert listeners.call_due(wakes[1]) is None
    assert calls == [("a", 2), ("a", 3), ("b", 1)]


def test_what_a_listener_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The others are called all the same."""
    calls: list[str] = []

    def broken(reason: str, number: int) -> None:
        raise KeyError("listener")

    listeners = Listeners(lambda at: None)
    listeners.add("drop", broken)
    listeners.add("drop", lambda reason, number: calls.append(reason))
    with caplog.at_level(logging.ERROR, "rambla_py.analytics"):
        for reason in ("a", "b"):
            listeners.report(reason, 1, None)
            listeners.call_all()
    assert calls == ["a", "b"]
    assert caplog.text.count("a listener for 'drop' raised") == 1


def test_an_error_of_the_connection_is_reported() -> None:
    """No event is lost by it: it waits."""
    errors: list[BaseException] = []
    tracker = Tracker(unreachable(), batch_timeout_s=0, on_error=errors.append)
    try:
        tracker.track("a")
        wait_until(lambda: errors)
        assert (tracker.audit().pending, tracker.audit().lost) == (1, 0)
        assert not tracker.flush(0.05)
    finally:
        tracker.close(0)
    audit = tracker.audit()
    assert (audit.lost, audit.pending, audit.reasons) == (1, 0, {"stopped": 1})
