"""Tests of what events have in common: the context, the sample, consent, and values that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from analytics_cases import recorded

from rambla_py.analytics import AnalyticsError, Tracker
from rambla_py.delivery import Delivery
from rambla_py.handler import Handler, State


def test_the_context_of_the_process() -> None:
    with recorded({"service": "shop", "environment": "test", "release": "1.2"}) as case:
        case.tracker.track("a")
        context = case.event["context"]
    assert (context["service"], context["environment"], context["release"]) == ("shop", "test", "1.2")
    assert (context["process_id"], bool(context["host"])) == (os.getpid(), True)


def test_a_context_is_on_every_event_inside() -> None:
    """Inner ones are added; fields of the call win; it ends with the ``with``, also by an exception."""
    with recorded() as case:
        tracker = case.tracker
        with tracker.context(user_id="u-1", request_id="r-1", tenant="acme"):
            tracker.track("a", tenant="mine")
            with pytest.raises(KeyError), tracker.context(trace_id="t-1", user_id=2):
                tracker.track("b")
                raise KeyError
            tracker.track("c")
        tracker.track("d")
        a, b, c, d = case.events
    assert (a["user_id"], a["context"]["request_id"], a["properties"]) == ("u-1", "r-1", {"tenant": "mine"})
    assert (b["user_id"], b["context"]["trace_id"], b["context"]["request_id"]) == ("2", "t-1", "r-1")
    assert ("trace_id" in c["context"], c["user_id"], c["properties"]) == (False, "u-1", {"tenant": "acme"})
    assert (d["user_id"], "request_id" in d["context"], d["properties"]) == (None, False, {})


def test_a_context_reaches_tasks_and_threads() -> None:
    with recorded() as case:
        tracker = case.tracker

        async def main() -> None:
            with tracker.context(user_id="u-1"):
                await asyncio.gather(asyncio.create_task(step()), asyncio.to_thread(tracker.track, "thread"))

        async def step() -> None:
            tracker.track("task")

        asyncio.run(main())
        copied = threading.Thread(target=contextvars.copy_context().run, args=(tracker.track, "outside"))
        copied.start()
        copied.join(20)
        found = {event["event"]: event["user_id"] for event in case.events}
    assert found == {"task": "u-1", "thread": "u-1", "outside": None}


def test_a_context_of_a_generator_that_is_closed_elsewhere() -> None:
    """It ends in silence: the context that it was opened in is gone."""
    with recorded() as case:

        def steps() -> Iterator[int]:
            with case.tracker.context(user_id="u-1"):
                yield 1

        generator = steps()
        contextvars.copy_context().run(next, generator)
        generator.close()
        case.tracker.track("a")
        assert case.event["user_id"] is None


def test_a_wrong_context_does_not_raise() -> None:
    """Only what is wrong is left out, and an event is never another user's."""
    errors: list[BaseException] = []
    with recorded(on_error=errors.append) as case:
        with (
            case.tracker.context(user_id="u-1"),
            case.tracker.context(user_id=object(), request_id=object(), trace_id="t-1"),
        ):
            case.tracker.track("a")
        event = case.event
    assert (event["user_id"], "request_id" in event["context"], event["context"]["trace_id"]) == (
        None,
        False,
        "t-1",
    )
    assert {type(error) for error in errors} == {AnalyticsError}


def test_the_user_of_the_context_is_that_of_a_login_without_one() -> None:
    with recorded() as case, case.tracker.context(user_id="u-1"):
        case.tracker.track_user_auth("logout", None, True)
        assert case.event["user_id"] == "u-1"


def test_the_sample_keeps_failures() -> None:
    """What is left out is counted; a failure is kept, and is one event."""
    with recorded(sample=0.0) as case:
        tracker = case.tracker
        for status in (200, 404, 500, 503):
            tracker.track_api_request("GET", "/", status, 1.0)
        tracker.track_payment("charge", 1, "EUR", True)
        tracker.track_payment("charge", 1, "EUR", False)
        tracker.track("a", success=True)
        tracker.track("b", success=False)
        tracker.track_api_error(KeyError("x"))
        audit = (case.records, tracker.audit())[1]
        assert {event["sample_rate"] for event in case.events} == {1.0}
    assert (audit.tracked, audit.sampled, audit.delivered) == (9, 4, 5)


def test_the_sample_keeps_failures_that_further_fields_tell_of() -> None:
    with recorded(sample=0.0) as case:
        case.tracker.track("a", status_code=503)
        case.tracker.track("b", status_code="503")
        case.tracker.track_api_request("GET", "/", 200, 1.0, success=False)
        case.tracker.track_external_api_call("bank", "/pay", 1.0, True, status_code=503)
        kept = {event["event"] for event in case.events}
    assert kept == {"a", "API Call", "External API Call"}


def test_a_sampled_event_has_its_rate() -> None:
    """By action, from the settings; the other actions are kept."""
    with recorded({"sample": {"api_request": 0.5}}) as case:
        for _ in range(100):
            case.tracker.track_api_request("GET", "/", 200, 1.0)
        case.tracker.track("a")
        rates = [event["sample_rate"] for event in case.events]
        audit = case.tracker.audit()
    assert rates.count(1.0) == 1
    assert set(rates) == {0.5, 1.0}
    assert (audit.sampled + audit.delivered, audit.sampled > 0) == (101, True)


def test_an_argument_wins_over_the_sample_of_the_settings() -> None:
    with recorded({"sample": 0.0}, sample={"custom": 1.0}) as case:
        case.tracker.track("a")
        assert case.event["sample_rate"] == 1.0


def test_without_consent_nothing_is_published() -> None:
    """It is asked with the event as it would be published; an error means no."""
    asked: list[dict[str, Any]] = []

    def consent(event: dict[str, Any]) -> bool:
        asked.append(event)
        if event["event"] == "broken":
            raise KeyError("consent")
        return event["event"] == "yes"

    with recorded(consent=consent) as case:
        for name in ("yes", "no", "broken"):
            case.tracker.track(name, plan="pro")
        assert case.event["event"] == "yes"
        audit = case.tracker.audit()
    assert (audit.refused, audit.reasons) == (2, {"no consent": 2})
    assert asked[0]["properties"] == {"plan": "pro"}


def test_consent_cannot_change_events() -> None:
    """What it does to the event that it is shown reaches neither this event nor another one."""

    def consent(event: dict[str, Any]) -> bool:
        event["properties"]["added"] = event["context"]["added"] = event["event"]
        del event["event_action"]
        return True

    with recorded(consent=consent) as case, recorded() as other:
        case.tracker.track("first")
        other.tracker.track("second")
        assert case.tracker.flush(20)
        assert case.tracker.audit().pending == 0
        events = [case.event, other.event]
    assert [(one["properties"], "added" in one["context"]) for one in events] == [({}, False)] * 2
    assert events[0]["event_action"] == "custom"


class Hostile:
    """Raises whatever is done to it."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise self.error

    def __hash__(self) -> int:
        raise self.error

    def __eq__(self, other: object) -> bool:
        raise self.error

    def __index__(self) -> int:
        raise self.error


@pytest.mark.parametrize(
    "error", [ValueError("x"), RecursionError(), MemoryError(), NotImplementedError()], ids=repr
)
def test_a_hostile_value_raises_nothing(error: Exception) -> None:
    """In any place of any method; each event is accounted for."""
    value: Any = Hostile(error)
    with recorded() as case:
        tracker = case.tracker
        tracker.track_api_request(value, "/", 200, 1.0)
        tracker.track_api_request("GET", value, value, value, user_agent=value, ip_address=value)
        tracker.track_api_error(value)
        tracker.track_db_query(value, 1.0, True)
        tracker.track_payment("charge", value, value, True)
        tracker.track_user_auth("login", value, value)
        tracker.track_email_send(value, value, value)
        tracker.track(value, event_category=value)
        tracker.track("a", anything=value, nested={"a": [value]}, user_id=value, timestamp=value)
        with tracker.context(user_id=value, other=value):
            tracker.track("b")
        assert case.records is not None
        audit = tracker.audit()
    assert (audit.tracked, audit.pending) == (10, 0)
    assert audit.tracked == audit.refused + audit.delivered + audit.lost


def test_an_error_whose_text_cannot_be_made() -> None:
    class BrokenError(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    with recorded() as case:
        case.tracker.track_api_error(BrokenError())
        event = case.events[0]
    assert (event["error_type"].rpartition(".")[2], event["error_message"]) == ("BrokenError", "")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_passes(error: type[BaseException]) -> None:
    with recorded(consent=lambda event: (_ for _ in ()).throw(error())) as case, pytest.raises(error):
        case.tracker.track("a")


def test_a_full_stack_raises_nothing() -> None:
    """Whatever room is left on the stack, the call returns, and the event is accounted for."""

    def deeper(tracker: Tracker, calls: list[int]) -> None:
        try:
            deeper(tracker, calls)
        except RecursionError:
            calls.append(1)
        else:
            return
        # From here outwards there is a little more room with each return.
        if len(calls) < 60:
            calls.append(1)
            tracker.track("a", nested={"a": 1})
            raise RecursionError

    with recorded() as case:
        case.tracker.track("first")  # the worker runs
        assert len(case.events) == 1
        with contextlib.suppress(RecursionError):
            deeper(case.tracker, [])
        assert case.records is not None
        audit = case.tracker.audit()
    assert audit.tracked > 0
    assert audit.tracked == audit.refused + audit.delivered + audit.lost
    assert audit.pending == 0


def test_odd_values_are_events() -> None:
    """Each is an event, and what is in it can be written as JSON."""
    cycle: list[Any] = []
    cycle.append(cycle)
    odd = [Decimal("NaN"), float("inf"), {1, 2}, b"\xff", "\ud800", "\x00", cycle, object(), {object(): 1}]
    with recorded() as case:
        for value in odd:
            case.tracker.track("odd", value=value)
        assert len(case.events) == len(odd)


def test_a_retry_has_the_time_of_the_call_and_its_id() -> None:
    """The time is taken when the event is tracked, and the id is the message's."""

    class FailsOnce(Handler):
        seen: list[tuple[str, str]] = []

        def handle_batch(self, messages: Sequence[Delivery], state: State) -> list[Any]:
            FailsOnce.seen.extend((one.id, one.payload["timestamp"]) for one in messages)
            return [ValueError("not yet") if len(FailsOnce.seen) == 1 else None for _ in messages]

    options = {"backoff": {"initial_s": 0.01}}
    table = {"once": {"handler": FailsOnce, "channels": {"analytics": {"options": options}}}}
    with Tracker(table) as tracker:
        tracker.track("a")
        assert tracker.flush(20)
        assert tracker.audit().delivered == 1
    first, second = FailsOnce.seen
    assert first == second
