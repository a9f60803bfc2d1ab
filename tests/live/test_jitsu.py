"""Tests of the jitsu handler on a stand-in for Jitsu's ingestion API."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from http_app import OneChannel, channel
from jitsu_server import KEY, JitsuServer
from waiting import wait_until
from web_server import Reply, Seen


@pytest.fixture
def jitsu() -> Iterator[JitsuServer]:
    with JitsuServer() as server:
        yield server


def to(server: JitsuServer, connection: dict[str, Any] | None = None, **settings: Any) -> Any:
    """Run an app whose channel sends to the stand-in."""
    options = settings.pop("options", {})
    given = {"url": server.url, "write_key": KEY, **(connection or {})}
    return channel("jitsu", given, settings, **options)


def answered(status: int, **answer: Any) -> Reply:
    return Reply(status, json.dumps(answer).encode())


def sizes(server: JitsuServer) -> list[int]:
    """Return how many events each batch had, without the empty ones of new connections."""
    return [len(batch["batch"]) for batch in server.ingestion.batches if batch["batch"]]


def test_a_batch_is_one_request(jitsu: JitsuServer):
    """The key is in its header only; the envelope has the library and the time of sending."""
    with to(jitsu) as c:
        c.send_many([{"event": "Visit", "n": n} for n in range(50)])
    assert sizes(jitsu) == [50]
    seen = jitsu.posts()[-1]
    assert (seen.path, seen.headers["content-type"]) == ("/api/s/s2s/batch", "application/json")
    assert (seen.headers["x-write-key"], seen.headers["content-encoding"]) == (KEY, "gzip")
    assert KEY.encode() not in seen.body
    batch = json.loads(seen.body)
    assert set(batch) == {"batch", "context", "sentAt"}
    assert batch["context"]["library"]["name"] == "rambla-py"
    assert dt.datetime.fromisoformat(batch["sentAt"]).tzinfo is not None


def test_small_batches_are_not_compressed(jitsu: JitsuServer):
    """Below compress_above, and with compression off."""
    with to(jitsu) as c:
        c.send({"event": "Visit"})
    with to(jitsu, options={"compression": "none"}) as c:
        c.send({"event": "Visit", "text": "x" * 5_000})
    assert not any("content-encoding" in seen.headers for seen in jitsu.posts())


def test_paths_of_old_servers_and_below_a_prefix(jitsu: JitsuServer):
    """``path`` and ``health_path`` go below the path of the URL."""
    with to(jitsu, {"path": "/v1/batch"}) as c:
        assert c.send({"event": "Visit"}).status == "ok"
    assert {seen.path for seen in jitsu.posts()} == {"/v1/batch"}
    jitsu.ingestion.reply = lambda seen: answered(200, ok=True)
    with to(jitsu, {"url": f"{jitsu.url}/ingest/"}) as c:
        assert c.send({"event": "Visit"}).status == "ok"
    assert jitsu.posts()[-1].path == "/ingest/api/s/s2s/batch"


def test_an_event(jitsu: JitsuServer):
    """Fields with a place of their own, the event's own and further fields, and the context."""
    payload = {
        "id": "e-1",
        "event": "API Call",
        "event_category": "backend",
        "event_action": "api_request",
        "timestamp": "2024-01-15T10:30:00.000Z",
        "status_code": 200,
        "user_agent": "curl/8",
        "ip_address": "203.0.113.0",
        "user_id": 7,
        "sample_rate": 0.5,
        "context": {"service": "shop", "anonymous_id": "a-1"},
        "properties": {"order_id": "o-17"},
    }
    with to(jitsu) as c:
        assert c.send(payload, id="e-1", headers={"table": "api_events"}).status == "ok"
    (event,) = jitsu.events
    library = event["context"].pop("library")
    assert library["version"]
    assert event == {
        "type": "track",
        "event": "API Call",
        "messageId": "e-1",
        "timestamp": "2024-01-15T10:30:00.000Z",
        "userId": "7",
        "anonymousId": "a-1",
        "properties": {
            "order_id": "o-17",
            "event_category": "backend",
            "event_action": "api_request",
            "status_code": 200,
            "user_agent": "curl/8",
            "ip_address": "203.0.113.0",
            "sample_rate": 0.5,
        },
        "context": {
            "service": "shop",
            "ip": "203.0.113.0",
            "userAgent": "curl/8",
            "table": "api_events",
        },
    }


def test_what_is_not_known_is_left_out(jitsu: JitsuServer):
    """No id of a user is made up; an ``id`` that is not the message's is a property."""
    with to(jitsu) as c:
        c.send({"event": "Visit", "id": 42, "user_id": None})
    (event,) = jitsu.events
    assert not {"userId", "anonymousId"} & set(event)
    assert event["properties"] == {"id": 42}


@dataclasses.dataclass
class Visit:
    event: str = "Visit"
    n: int = 1


@pytest.mark.parametrize("payload", ['{"event": "Visit", "n": 1}', b'{"event": "Visit", "n": 1}', Visit()])
def test_other_forms_of_an_event(jitsu: JitsuServer, payload: Any):
    """JSON of an object, and what is written as one."""
    with to(jitsu) as c:
        assert c.send(payload).status == "ok"
    assert [(event["event"], event["properties"]) for event in jitsu.events] == [("Visit", {"n": 1})]


@pytest.mark.parametrize(
    "payload", [[1], "text", 7, {"n": 1}, {"event": ""}, {"event": 7}, {"event": "a", "properties": 7}]
)
def test_what_is_no_event_is_fatal_alone(jitsu: JitsuServer, payload: Any):
    """It is not sent, and the other messages of its batch are."""
    with to(jitsu) as c:
        outcomes = c.send_many([{"event": "Visit"}, payload, {"event": "Visit"}])
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "ok"]
    assert len(jitsu.events) == 2


@pytest.mark.parametrize(
    ("name", "sent"),
    [("a--b;c=d/*e", "a_b_c_d_e"), ("x" * 65, "x" * 64), ("ü" * 40, "ü" * 32), ("Größe 4", "Größe 4")],
)
def test_names_that_jitsu_refuses(jitsu: JitsuServer, name: str, sent: str):
    """They are changed, and kept whole as a property."""
    with to(jitsu) as c:
        assert c.send({"event": name}).status == "ok"
    (event,) = jitsu.events
    assert event["event"] == sent
    assert event["properties"] == ({} if name == sent else {"event_name": name})


@pytest.mark.parametrize("given", ["a b", "x" * 65, "Größe"])
def test_ids_that_jitsu_would_change(jitsu: JitsuServer, given: str):
    """They become a digest, the same one each time, so that duplicates are found, and refusals too."""
    jitsu.ingestion.refuse = lambda event: "event error" if event["properties"]["n"] else None
    with to(jitsu) as c:
        assert [c.send({"event": "Visit", "n": n}, id=given).status for n in (0, 1)] == ["ok", "fatal"]
        assert c.send({"event": "Visit", "n": 0}, id=given).status == "ok"
    ids = {event["messageId"] for event in jitsu.events}
    assert [len(one) for one in ids] == [40]


def test_the_time_is_that_of_the_call(jitsu: JitsuServer):
    """Also after a retry, which has the same id; a time that is given is kept."""
    failures = iter(["producer error", "producer error", None, None])
    jitsu.ingestion.refuse = lambda event: next(failures)
    began = dt.datetime.now(dt.UTC)
    with to(jitsu, batch_timeout_s=0.2) as c:
        assert c.send({"event": "Visit"}, id="m-1").attempts == 3
        ended = dt.datetime.now(dt.UTC)
        c.send({"event": "Visit", "timestamp": dt.datetime(2024, 1, 15, 10, 30)}, id="m-2")
    sent = [event for batch in jitsu.ingestion.batches for event in batch["batch"]]
    assert len({(event["messageId"], event["timestamp"]) for event in sent[:3]}) == 1
    slack = dt.timedelta(seconds=3)
    assert began - slack < dt.datetime.fromisoformat(sent[0]["timestamp"]) < ended + slack
    assert sent[3]["timestamp"] == "2024-01-15T10:30:00.000Z"


def test_what_is_refused_inside_a_200_is_fatal_alone(jitsu: JitsuServer):
    """Each with its reason; the others of the batch are delivered, and nothing is sent again."""
    reasons = {7: "quota exceeded: billing", 8: "no destinations found for stream: s", 9: "event error: 'x'"}
    jitsu.ingestion.refuse = lambda event: reasons.get(event["properties"]["n"])
    with to(jitsu) as c:
        outcomes = c.send_many([{"event": "Visit", "n": n} for n in range(20)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.status == "fatal"] == [7, 8, 9]
    assert {outcome.status for outcome in outcomes} == {"ok", "fatal"}
    shown = [str(outcomes[n].error).rpartition(": ")[2] for n in reasons]
    assert shown == ["quota exceeded", "no destinations found for stream", "event error"]
    assert sizes(jitsu) == [20]


@pytest.mark.parametrize("reason", ["error# Ab3: producer error", "panic: nil map"])
def test_what_could_not_be_stored_is_sent_again(jitsu: JitsuServer, reason: str):
    """Only the events that the server names."""
    left = [2]

    def refuse(event: dict[str, Any]) -> str | None:
        if event["properties"]["n"] != 3 or not left[0]:
            return None
        left[0] -= 1
        return reason

    jitsu.ingestion.refuse = refuse
    with to(jitsu) as c:
        outcomes = c.send_many([{"event": "Visit", "n": n} for n in range(10)])
    assert [(outcome.status, outcome.attempts) for outcome in outcomes] == [
        ("ok", 3 if n == 3 else 1) for n in range(10)
    ]
    assert sizes(jitsu) == [10, 1, 1]


@pytest.mark.parametrize("errors", [[], ["bad"], ["Message ID: another: bad"]])
def test_a_refusal_without_ids_is_found_by_halves(jitsu: JitsuServer, errors: list[str]):
    """Only the bad event is fatal."""

    def reply(seen: Seen) -> Reply | None:
        bad = b'"bad"' in seen.body
        return answered(200, ok=False, errors=errors, receivedEvents=9, okEvents=8) if bad else None

    jitsu.ingestion.reply = reply
    with to(jitsu) as c:
        outcomes = c.send_many([{"event": "Visit", "kind": "bad" if n == 5 else "good"} for n in range(30)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.status == "fatal"] == [5]
    assert len(jitsu.events) == 29


@pytest.mark.parametrize(
    "refusal", [answered(401), answered(200, error="stream not found"), Reply(200, b"<html>")]
)
def test_a_wrong_key_or_address_takes_the_channel_down(jitsu: JitsuServer, refusal: Reply):
    """Nothing counts as delivered; all is delivered when the server accepts the key."""
    let_in = threading.Event()
    jitsu.ingestion.reply = lambda seen: None if let_in.is_set() else refusal
    with to(jitsu, max_reconnect_s=0.2, slow_restart_s=0.2) as c:
        receipt = c.app.publish_many("to", [{"event": "Visit"} for _ in range(5)])
        wait_until(lambda: c.status().state == "down")
        assert not receipt.done()
        assert c.app.audit()["service.to"].ok == 0
        let_in.set()
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=20)} == {"ok"}


def test_a_key_that_is_revoked_takes_the_channel_down(jitsu: JitsuServer):
    """A connection that was made before notices it at the next batch."""
    with to(jitsu, max_reconnect_s=0.2, slow_restart_s=0.2) as c:
        assert c.send({"event": "Visit"}).status == "ok"
        jitsu.ingestion.keys = ()
        receipt = c.app.publish("to", {"event": "Visit"})
        wait_until(lambda: c.status().state == "down")
        assert "401" in c.status().last_error
        jitsu.ingestion.keys = (KEY,)
        assert receipt.outcomes(timeout_s=20)[0].status == "ok"


@pytest.mark.parametrize("reply", [answered(402, error="quota exceeded"), answered(200, error="no")])
def test_a_refused_request_is_fatal_as_a_whole(jitsu: JitsuServer, reply: Reply):
    """Halves would be refused likewise."""
    asked: list[Seen] = []

    def refuse(seen: Seen) -> Reply | None:
        if b'"Visit"' not in seen.body:
            return None
        asked.append(seen)
        return reply

    jitsu.ingestion.reply = refuse
    with to(jitsu) as c:
        outcomes = c.send_many([{"event": "Visit"} for _ in range(10)])
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("fatal", 1)}
    assert len(asked) == 1


@pytest.mark.parametrize("status", [400, 413])
def test_a_batch_that_is_refused_for_its_content_is_divided(jitsu: JitsuServer, status: int):
    """The rest is delivered."""
    jitsu.ingestion.reply = lambda seen: Reply(status) if b'"bad"' in seen.body else None
    with to(jitsu) as c:
        outcomes = c.send_many([{"event": "Visit", "k": "bad" if n == 3 else "ok"} for n in range(20)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.status == "fatal"] == [3]


@pytest.mark.parametrize("status", [429, 503])
def test_an_unavailable_server_uses_up_no_retries(jitsu: JitsuServer, status: int):
    """Events wait until it takes them."""
    left = [4]

    def reply(seen: Seen) -> Reply | None:
        left[0] -= b'"Visit"' in seen.body
        return Reply(status) if b'"Visit"' in seen.body and left[0] >= 0 else None

    jitsu.ingestion.reply = reply
    with to(jitsu, max_reconnect_s=0.1, options={"retries": 1}) as c:
        assert c.send({"event": "Visit"}).status == "ok"


def test_many_large_events(jitsu: JitsuServer):
    """500 events of 60 kB are split by max_body_bytes; a smaller limit of the server halves."""
    bodies: list[int] = []

    def reply(seen: Seen) -> Reply | None:
        bodies.append(len(seen.body))
        return Reply(413) if len(seen.body) > 500_000 else None

    jitsu.ingestion.reply = reply
    with to(jitsu, options={"compression": "none"}) as c:
        outcomes = c.send_many([{"event": "Visit", "text": "x" * 60_000} for _ in range(500)])
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert len(jitsu.events) == 500
    assert 500_000 < max(bodies) <= 800_000


def checked(c: OneChannel) -> Any:
    (found,) = c.app.ping()
    return found


def test_a_ping(jitsu: JitsuServer):
    """It asks for the server's health; an answer that says out of order is an error."""
    with to(jitsu) as c:
        assert checked(c).ok
        answer = jitsu.answer
        jitsu.answer = lambda seen: Reply(503) if seen.method == "GET" else answer(seen)
        assert not checked(c).ok
