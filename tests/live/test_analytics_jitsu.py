"""A tracker in front of Jitsu: what is refused inside a 200, limits of size, and times."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from jitsu_server import KEY, JitsuServer
from web_server import Reply, Seen

from rambla_py.analytics import Tracker


@pytest.fixture
def jitsu() -> Iterator[JitsuServer]:
    with JitsuServer() as server:
        yield server


def tracking(server: JitsuServer, **settings: Any) -> Tracker:
    """Return a tracker whose channel sends to the stand-in."""
    return Tracker(
        {
            "rambla": {"analytics": settings},
            "jitsu": {
                "options": {"backoff": {"initial_s": 0.01, "max_s": 0.02}},
                "connections": {"default": {"url": server.url}},
                "channels": {"analytics": {"connection": "default"}},
            },
        },
        write_key=KEY,
        batch_timeout_s=0.2,
    )


def test_events_of_a_tracker(jitsu: JitsuServer):
    """A URL and a write key are enough; an event of two tables comes once for each, and names it."""
    with Tracker(f"jitsu+{jitsu.url}", write_key=KEY, batch_timeout_s=0.2) as tracker:
        tracker.track_api_request(
            "GET", "/items/{id}", 200, 12.5, user_agent="curl/8", ip_address="203.0.113.7", order_id="o-17"
        )
        tracker.track_api_error(KeyError("x"), method="GET", path="/", user_id="u-7")
        assert tracker.flush(timeout_s=20)
        assert tracker.audit().delivered == 2
    request, *errors = sorted(jitsu.events, key=lambda event: event["event"] != "API Call")
    assert request["properties"]["order_id"] == "o-17"
    assert request["properties"]["event_action"] == "api_request"
    assert request["context"]["ip"].startswith("203.0.113.")
    assert request["context"]["userAgent"] == "curl/8"
    assert (request["context"]["table"], "userId" in request) == ("api_events", False)
    assert {event["context"]["table"] for event in errors} == {"api_events", "backend_error_events"}
    assert {event["userId"] for event in errors} == {"u-7"}
    assert len({event["messageId"] for event in errors}) == 1


def test_a_refusal_inside_a_200_is_counted(jitsu: JitsuServer):
    """Only the refused events are lost, with the reason; what could not be stored is sent again."""
    stored: Counter[str] = Counter()

    def refuse(event: dict[str, Any]) -> str | None:
        name = event["event"]
        stored[name] += 1
        if name == "bad":
            return "quota exceeded: billing"
        return "error# A1: producer error" if name == "later" and stored[name] == 1 else None

    jitsu.ingestion.refuse = refuse
    with tracking(jitsu) as tracker:
        for name in ("good", "bad", "later", "good"):
            tracker.track(name)
        assert tracker.flush(timeout_s=20)
        audit = tracker.audit()
        assert (audit.tracked, audit.delivered, audit.lost, audit.pending) == (4, 3, 1, 0)
    assert Counter(event["event"] for event in jitsu.events) == {"good": 2, "later": 1}


def test_many_large_events_arrive(jitsu: JitsuServer):
    """60 events of 60 kB in front of a limit below that of the connection: split, and halved at 413."""
    jitsu.ingestion.reply = lambda seen: Reply(413) if len(seen.body) > 500_000 else None
    with tracking(jitsu, privacy={"max_text": 100_000, "max_event_bytes": 70_000}) as tracker:
        for number in range(60):
            tracker.track("large", number=number, text="x y" * 20_000)
        assert tracker.flush(timeout_s=60)
        assert tracker.audit().delivered == 60
    assert len({event["properties"]["number"] for event in jitsu.events}) == 60
    assert min(len(json.dumps(event)) for event in jitsu.events) > 60_000


def test_the_time_is_that_of_the_call_and_the_id_stays(jitsu: JitsuServer):
    """Also when the server takes the event later, and after a retry."""
    refused: list[Seen] = []

    def reply(seen: Seen) -> Reply | None:
        if b'"late"' not in seen.body or len(refused) >= 2:
            return None
        refused.append(seen)
        return Reply(500)

    jitsu.ingestion.reply = reply
    with tracking(jitsu) as tracker:
        before = dt.datetime.now(dt.UTC)
        tracker.track("late")
        after = dt.datetime.now(dt.UTC)
        tracker.track("given", timestamp="2024-01-15T10:30:00.000Z")
        assert tracker.flush(timeout_s=20)
    found = {event["event"]: event for event in jitsu.events}
    tried = [one for seen in refused for one in json.loads(seen.body)["batch"] if one["event"] == "late"]
    assert len(tried) == 2
    assert {(one["messageId"], one["timestamp"]) for one in tried} == {
        (found["late"]["messageId"], found["late"]["timestamp"])
    }
    moment = dt.datetime.fromisoformat(found["late"]["timestamp"])
    assert before - dt.timedelta(milliseconds=1) <= moment <= after
    assert found["given"]["timestamp"] == "2024-01-15T10:30:00.000Z"
