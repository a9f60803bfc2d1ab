"""Tests of batches and of many requests in flight of the http handler."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import threading
import time

import msgspec
import pytest
from counted_calls import Calls
from http_app import channel, to
from waiting import wait_until
from web_server import Reply, Seen, WebServer

from rambla_py.handlers.http.settings import HttpOptions


def test_an_envelope(web_server: WebServer):
    """A batch is one request with events, timestamp and size."""
    with to(web_server, body_format="batch") as c:
        c.send_many([{"n": 1}, "text", 3])
    envelopes = [json.loads(seen.body) for seen in web_server.seen]
    assert [set(envelope) for envelope in envelopes] == [{"events", "timestamp", "size"}]
    assert envelopes[0]["events"] == [{"n": 1}, "text", 3]
    assert envelopes[0]["size"] == 3
    assert abs(envelopes[0]["timestamp"] - time.time()) < 60


@dataclasses.dataclass
class Order:
    id: int = 7
    n: int = 1


def test_the_id_in_each_event(web_server: WebServer):
    """Objects of a batch contain their message's id; one that has a field of that name is fatal."""
    with to(web_server, body_format="ndjson", id_field="id") as c:
        assert c.send({"n": 1}, id="m-1").status == "ok"
        assert c.send({}, id="m-2").status == "ok"
        refused = [c.send(payload) for payload in ({"id": 7}, Order())]
    assert [seen.body for seen in web_server.seen] == [b'{"id":"m-1","n":1}\n', b'{"id":"m-2"}\n']
    assert [outcome.status for outcome in refused] == ["fatal"] * 2
    assert {str(outcome.error) for outcome in refused} == {
        "the payload already has a field 'id'; choose another id_field"
    }


def test_an_event_is_one_line(web_server: WebServer):
    """JSON that the user wrote over several lines is one line among many."""
    with to(web_server, body_format="ndjson") as c:
        assert c.send(msgspec.Raw(b'{"a":\n [1,\n2]}')).status == "ok"
    assert web_server.seen[0].body == b'{"a":[1,2]}\n'


def test_messages_with_other_options_go_apart(web_server: WebServer):
    """Messages share a request only when path and headers are the same."""
    with to(web_server, body_format="ndjson") as c:
        receipts = [c.app.publish("to", {"n": n}, headers={"X-Kind": str(n % 2)}) for n in range(10)]
        assert [receipt.outcomes(timeout_s=20)[0].status for receipt in receipts] == ["ok"] * 10
    for seen in web_server.seen:
        kinds = {json.loads(line)["n"] % 2 for line in seen.body.splitlines()}
        assert kinds == {int(seen.headers["x-kind"])}


def test_bad_events_in_a_batch(web_server: WebServer):
    """The server is asked about ever smaller halves: only the events that it refuses are fatal."""

    def answer(seen: Seen) -> Reply:
        return Reply(400, b"bad") if b'"bad"' in seen.body else Reply()

    web_server.answer = answer
    payloads = [{"n": n, "k": "bad" if n in (3, 77) else "good"} for n in range(100)]
    with to(web_server, body_format="batch") as c:
        outcomes = c.send_many(payloads)
    assert [n for n, outcome in enumerate(outcomes) if outcome.status == "fatal"] == [3, 77]
    arrived = [event["n"] for seen in web_server.seen for event in json.loads(seen.body)["events"]]
    assert sorted(arrived) == [n for n in range(100) if n not in (3, 77)]


def test_a_batch_refused_for_its_address(web_server: WebServer):
    """A status that is not about the content fails all at once, without asking again."""
    asked: list[Seen] = []

    def answer(seen: Seen) -> Reply:
        asked.append(seen)
        return Reply(404)

    web_server.answer = answer
    with to(web_server, body_format="batch") as c:
        outcomes = c.send_many([{"n": n} for n in range(100)])
    assert {outcome.status for outcome in outcomes} == {"fatal"}
    assert len(asked) == 1


def test_many_requests_in_flight(web_server: WebServer):
    """A worker whose server takes its time has up to max_connections requests out, over kept connections."""
    web_server.answer = lambda seen: Reply(delay_s=0.1)
    with to(web_server, {"max_connections": 16}) as c:
        began = time.monotonic()
        outcomes = c.send_many(list(range(100)))
        took_s = time.monotonic() - began
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert web_server.most == 16
    assert web_server.connections <= 18
    assert took_s < 5


def test_a_slow_request_holds_up_no_other(web_server: WebServer):
    """Requests that get no answer leave room for others."""
    web_server.answer = lambda seen: Reply(silent=b"stuck" in seen.body)
    with to(web_server, timeout_s=20) as c:
        stuck = [c.app.publish("to", "stuck") for _ in range(8)]
        wait_until(lambda: web_server.now == 0 and len(web_server.seen) >= 4)
        assert {outcome.status for outcome in c.send_many(list(range(50)))} == {"ok"}
        assert not any(receipt.done() for receipt in stuck)
        c.app.stop(timeout_s=0.1)


def test_a_slow_server_is_not_overrun(web_server: WebServer):
    """What waits for a free connection is not given up after attempt_timeout_s, and nothing is sent twice."""
    web_server.answer = lambda seen: Reply(delay_s=0.2)
    settings = {"attempt_timeout_s": 1.5, "on_unknown": "report"}
    with channel("http", {"url": web_server.url, "max_connections": 2}, settings, timeout_s=1) as c:
        receipt = c.app.publish_many("to", list(range(30)))
        assert {(outcome.status, outcome.attempts) for outcome in receipt.outcomes(timeout_s=20)} == {
            ("ok", 1)
        }
        assert c.send("later").status == "ok"
    assert len(web_server.seen) == 31


def test_a_batch_is_an_array(web_server: WebServer):
    """``array`` sends the events alone; one message is an array, too."""
    with to(web_server, body_format="array", id_field="id") as c:
        c.send({"n": 1}, id="m-1")
        c.send_many(["text", [3]])
    assert [(seen.body, seen.headers["content-type"]) for seen in web_server.seen] == [
        (b'[{"id":"m-1","n":1}]', "application/json"),
        (b'["text",[3]]', "application/json"),
    ]


def test_the_fields_of_an_envelope_have_configured_names(web_server: WebServer):
    """Also a unit of the time; a field without a name is left out."""
    names = {"events_field": "Größe", "timestamp_field": "sent_at", "size_field": ""}
    with to(web_server, body_format="batch", timestamp_unit="ms", **names) as c:
        c.send(1)
    with to(web_server, body_format="batch", timestamp_unit="iso", timestamp_field="at") as c:
        c.send(2)
    first, second = (json.loads(seen.body) for seen in web_server.seen)
    assert first == {"Größe": [1], "sent_at": first["sent_at"]}
    assert abs(first["sent_at"] / 1000 - time.time()) < 60
    assert second == {"events": [2], "at": second["at"], "size": 1}
    assert abs(dt.datetime.fromisoformat(second["at"]).timestamp() - time.time()) < 60


@pytest.mark.parametrize("names", [{"events_field": ""}, {"size_field": "events"}])
def test_fields_of_an_envelope_that_do_not_fit(names: dict[str, str]):
    """Events need a name, and names differ."""
    with pytest.raises(ValueError, match="two fields of the batch"):
        HttpOptions(**names)  # type: ignore[arg-type]  # a mapping of strings


def test_headers_of_tracing_do_not_split_a_batch(web_server: WebServer):
    """Each message has its own; they are sent only where all messages of the request have the same."""
    with channel("http", {"url": web_server.url}, {"batch_timeout_s": 0.2}, body_format="array") as c:
        for own in (True, False):
            headers = [
                {"traceparent": f"00-{n + own:032x}-{1:016x}-01", "Baggage": "a=1", "X-Kind": "k"}
                for n in (range(20) if own else [7] * 20)
            ]
            receipts = [c.app.publish("to", n, headers=headers[n]) for n in range(20)]
            assert {receipt.outcomes(timeout_s=20)[0].status for receipt in receipts} == {"ok"}
    assert len(web_server.seen) < 10
    for seen in web_server.seen:
        assert (seen.headers["x-kind"], seen.headers["baggage"]) == ("k", "a=1")
    assert "traceparent" not in web_server.seen[0].headers or len(json.loads(web_server.seen[0].body)) == 1
    assert web_server.seen[-1].headers["traceparent"] == f"00-{7:032x}-{1:016x}-01"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_an_empty_body_has_its_length(web_server: WebServer, method: str):
    """Servers answer 411 to a POST without one (RFC 9110, 8.6)."""
    with to(web_server, method=method) as c:
        assert c.send(b"").status == "ok"
        assert c.send(b"x").status == "ok"
    assert [seen.headers["content-length"] for seen in web_server.seen] == ["0", "1"]


def test_what_an_event_of_a_batch_costs(web_server: WebServer):
    """In calls of functions on all threads but the publisher's: the event was encoded when it was published."""
    calls = Calls()
    payloads = [{"n": n, "text": "x" * 200} for n in range(4_000)]
    threading.setprofile(calls)
    try:
        with channel("http", {"url": web_server.url}, {"count": 1}, body_format="batch") as c:
            c.send_many(payloads)
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]  # which typeshed does not know
    assert calls.per_message(len(payloads)) < 26
