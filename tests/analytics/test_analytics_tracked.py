"""Tests of the decorator, and of samples of the system."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest
from analytics_cases import recorded
from waiting import wait_until

from rambla_py.analytics import AnalyticsError, Tracker
from rambla_py.analytics.connecting import Wanted, connect
from rambla_py.analytics.lifetime import Lifetime


def measured(events: list[dict[str, Any]]) -> list[tuple[bool, str | None]]:
    """Return whether each call succeeded, and the type of its error; each has a duration."""
    assert all(event["properties"]["duration_ms"] >= 0 for event in events)
    return [(event["properties"]["success"], event["properties"].get("error_type")) for event in events]


def test_a_function_is_tracked() -> None:
    """The exception passes as it is; name, doc and result are the function's."""
    with recorded() as case:

        @case.tracker.tracked("Report built", service="reports")
        def build(number: int) -> int:
            """Build it."""
            return 10 // number

        assert (build(5), build.__name__, build.__doc__) == (2, "build", "Build it.")
        with pytest.raises(ZeroDivisionError):
            build(0)
        events = case.events
    assert measured(events) == [(True, None), (False, "ZeroDivisionError")]
    assert {(event["event"], event["properties"]["service"]) for event in events} == {
        ("Report built", "reports")
    }


def test_a_coroutine_is_tracked() -> None:
    """So is one that is cancelled."""
    with recorded() as case:

        @case.tracker.tracked("Fetched")
        async def fetch(forever: bool) -> int:
            while forever:
                await asyncio.sleep(10)
            return 7

        async def main() -> int:
            task = asyncio.create_task(fetch(True))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await fetch(False)

        assert asyncio.run(main()) == 7
        assert measured(case.events) == [(False, "CancelledError"), (True, None)]


def test_a_generator_is_tracked_to_its_end() -> None:
    """What is sent and thrown reaches it; closing it early is a success."""
    with recorded() as case:

        @case.tracker.tracked("Stepped")
        def steps() -> Generator[int, int, str]:
            got = yield 1
            try:
                yield got
            except KeyError:
                yield 3
            return "end"

        generator = steps()
        assert (next(generator), generator.send(2), generator.throw(KeyError())) == (1, 2, 3)
        with pytest.raises(StopIteration, match="end"):
            next(generator)
        early = steps()
        next(early)
        early.close()
        assert measured(case.events) == [(True, None), (True, None)]


def test_an_async_generator_is_tracked_to_its_end() -> None:
    with recorded() as case:

        @case.tracker.tracked("Streamed")
        async def stream(fails: bool) -> AsyncIterator[int]:
            yield 1
            if fails:
                raise KeyError("stream")
            yield 2

        async def main() -> list[int]:
            found = [number async for number in stream(False)]
            with pytest.raises(KeyError):
                async for _ in stream(True):
                    pass
            early = stream(False)
            await anext(early)
            await early.aclose()  # type: ignore[attr-defined]  # it is a generator
            return found

        assert asyncio.run(main()) == [1, 2]
        assert measured(case.events) == [(True, None), (False, "KeyError"), (True, None)]


def test_a_stop_iteration_passes_too() -> None:
    with recorded() as case:

        @case.tracker.tracked("Stopped")
        def stop() -> None:
            raise StopIteration("mine")

        with pytest.raises(StopIteration, match="mine"):
            stop()
        assert measured(case.events) == [(False, "StopIteration")]


def test_a_sample_of_the_system() -> None:
    """Its fields are numbers, and those that are given win."""
    pytest.importorskip("psutil")
    with recorded() as case:
        case.tracker.track_system_performance(note="x")
        event = case.event
    assert event["memory_rss_bytes"] > 1_000_000
    assert event["threads"] >= 1
    assert (event["cpu_percent"] >= 0, event["open_files"] > 0, event["load_1m"] >= 0) == (True, True, True)
    assert event["properties"] == {"note": "x"}


def test_the_system_is_sampled_until_its_end() -> None:
    pytest.importorskip("psutil")
    with recorded(batch_size=1) as case:
        end = case.tracker.sample_system(0.01)
        wait_until(lambda: case.tracker.audit().delivered >= 3)
        end()
        tracked = case.tracker.audit().tracked
        assert case.tracker.flush(20)
        assert {event["event"] for event in case.events} == {"System Performance"}
        assert case.tracker.audit().tracked <= tracked + 1


@pytest.mark.parametrize("every_s", [0, -1.0, float("nan"), float("inf")])
def test_the_system_is_not_sampled_without_a_pause(every_s: float) -> None:
    with recorded() as case:
        with pytest.raises(AnalyticsError, match="every_s"):
            case.tracker.sample_system(every_s)
        assert case.events == []


def test_the_end_of_one_repetition_does_not_skip_another() -> None:
    """It may be removed while the others are called."""
    life = Lifetime(connect("null:", Wanted("analytics", None, None, None)), ["analytics"])
    calls: list[str] = []

    def once(now: float) -> float | None:
        calls.append("once")
        end()
        return None

    def other(now: float) -> float | None:
        calls.append("other")
        return now + 1.0

    end = life.repeat(once, 0.0)
    life.repeat(other, 0.0)
    assert life.run(5.0) == 6.0
    assert calls == ["once", "other"]


def test_without_psutil_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a sample needs it, and a missing one raises nothing."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with recorded() as case:
        case.tracker.track_system_performance()
        assert case.tracker.audit().reasons == {"refused: psutil": 1}
        with pytest.raises(Exception, match=r"pip install 'rambla-py\[analytics\]'"):
            case.tracker.sample_system()


def test_a_disabled_tracker_samples_nothing() -> None:
    with Tracker(enabled=False) as tracker:
        tracker.sample_system(0.01)()
        assert tracker.tracked("x")(lambda: 5)() == 5
