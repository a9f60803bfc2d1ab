"""This module tests the http handler against a real server."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import logging
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from http2_server import Http2Server
from http_app import channel
from waiting import wait_until
from web_server import Reply, Seen, WebServer

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnknownOutcomeError,
)
from rambla_py.handler import Secret
from rambla_py.handlers._http.client import HttpClient, Request
from rambla_py.handlers._http.settings import HttpTls
from rambla_py.handlers.http import HttpHandler
from rambla_py.handlers.http.settings import HttpConnection
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import Server, TlsFiles


@pytest.fixture
def server() -> Iterator[WebServer]:
    with WebServer() as made:
        yield made


@pytest.fixture
def tls_server(tls_files: TlsFiles) -> Iterator[WebServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.certificate, tls_files.key)
    with WebServer(tls=context) as made:
        yield made


def to(server: WebServer, /, connection: dict[str, Any] | None = None, **options: Any) -> Any:
    return channel("http", {"url": f"{server.url}/in", **(connection or {})}, **options)


def refusal(**connection: Any) -> ConnectionLostError:
    """Return the error of a connect that must fail."""
    with pytest.raises(ConnectionLostError) as caught:
        HttpHandler(HttpHandler.Connection(**connection)).connect()
    return caught.value


def replies(*replies: Reply) -> Callable[[Seen], Reply]:
    """Give these answers in turn, the last one for ever."""
    left = list(replies)
    return lambda seen: left.pop(0) if len(left) > 1 else left[0]


# -- requests -----------------------------------------------------------------------------------------------


def test_a_request(server: WebServer):
    """Method, path, query, headers, id and body arrive; status, headers and body come back."""
    server.answer = lambda seen: Reply(201, b'{"id":7}', {"Location": "/orders/7", "X-A": "1"})
    with to(
        server, {"query": {"v": 2}}, method="PUT", append_path="orders/a b", append_query={"q": ["x", 1]}
    ) as c:
        outcome = c.send({"n": 1}, id="m-1", headers={"X-Kind": "test", "X-Number": 5})
    seen = server.seen[0]
    assert (seen.method, seen.target) == ("PUT", "/in/orders/a%20b?v=2&q=x&q=1")
    assert seen.body == b'{"n":1}'
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["idempotency-key"] == "m-1"
    assert (seen.headers["x-kind"], seen.headers["x-number"]) == ("test", "5")
    result = outcome.result
    assert (result.status, result.json(), result.headers["location"]) == (201, {"id": 7}, "/orders/7")
    assert not result.truncated


@pytest.mark.parametrize(
    ("payload", "media"),
    [("text", "text/plain; charset=utf-8"), (b"raw", "application/octet-stream"), ([1], "application/json")],
)
def test_content_types(server: WebServer, payload: Any, media: str):
    """The media type follows the payload; a header of the message's own wins."""
    with to(server) as c:
        c.send(payload)
        c.send(payload, headers={"Content-Type": "application/vnd.shop+json"})
    kinds = [seen.headers["content-type"] for seen in server.seen]
    assert kinds == [media, "application/vnd.shop+json"]


def test_merge_url(server: WebServer):
    """A relative URL replaces what it names, as RFC 3986 has it."""
    with to(server) as c:
        c.send(1, merge_url="other?x=1")
        c.send(1, merge_url="?y=2")
    assert [seen.target for seen in server.seen] == ["/other?x=1", "/in?y=2"]


@pytest.mark.parametrize(
    "options",
    [
        {"append_path": "../admin"},
        {"append_path": ["a", ".."]},
        {"append_path": "a\r\nX: 1"},
        {"merge_url": "http://elsewhere.test/"},
        {"merge_url": "//elsewhere.test/"},
        {"merge_url": "/a/%2e%2e/admin"},
        {"merge_url": "/a b"},
        {"headers": {"X-A": "1\r\nX-B: 2"}},
        {"headers": {"X A": "1"}},
        {"headers": {"Host": "elsewhere.test"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
        {"append_query": {"a": {"b": 1}}},
    ],
)
def test_injection_is_refused(server: WebServer, options: dict[str, Any]):
    """What would lead to another place, or out of its header, is fatal before anything is sent."""
    with to(server) as c:
        outcome = c.send(1, **options)
    assert (outcome.status, outcome.attempts) == ("fatal", 1), outcome
    assert type(outcome.error) is PermanentError
    assert server.seen == []


def test_a_segment_may_hold_anything(server: WebServer):
    """An item of a list is one segment: a slash or a question mark in it does not end it."""
    with to(server) as c:
        c.send(1, append_path=["a/b?c#d%2f"])
    assert server.seen[0].target == "/in/a%2Fb%3Fc%23d%252f"


def test_the_query_of_the_connection_is_in_every_request(server: WebServer):
    """A URL that is merged brings a query of its own, and does not take away what every request is to have."""
    with to(server, {"query": {"key": "k"}, "ping_path": "/health"}) as c:
        c.send(1)
        c.send(2, merge_url="/other?a=1", append_query={"b": 2})
        c.send(3, merge_url="/other")
    assert [seen.target for seen in server.seen] == ["/in?key=k", "/other?a=1&key=k&b=2", "/other?key=k"]
    assert [seen.target for seen in server.pings] == ["/health?key=k"]


def test_an_id_that_no_header_holds(server: WebServer):
    """An id that is not visible ASCII is percent-encoded, and does not fail the message."""
    with to(server) as c:
        assert c.send(1, id="Größe\n4").status == "ok"
    assert server.seen[0].headers["idempotency-key"] == "Gr%C3%B6%C3%9Fe%0A4"


def test_a_user_and_password_of_the_url(server: WebServer):
    """They are sent as Basic, and stand in no path and no error."""
    server.login = ("shop", "p@ss")
    with channel("http", {"url": f"http://shop:p%40ss@{server.host}:{server.port}/in"}) as c:
        assert c.send(1).status == "ok"
    assert server.seen[0].target == "/in"


def test_a_token(server: WebServer):
    """A token is sent as Bearer; or alone in the header that is named."""
    server.token = "t0ken"
    with to(server, {"auth": {"token": "t0ken"}}) as c:
        assert c.send(1).status == "ok"
    server.token = None
    with to(server, {"auth": {"token": "t0ken", "header": "X-Api-Key"}}) as c:
        c.send(1)
    assert server.seen[1].headers["x-api-key"] == "t0ken"


def test_cloud_events(server: WebServer):
    """An event goes whole, as its attributes beside its data, or as one of many, with the media types for it."""
    with to(server, serializer="cloudevents", event_type="paid") as c:
        c.send({"n": 1}, id="m-1")
    with to(server, serializer="cloudevents-binary", event_type="Grüße 1") as c:
        c.send({"n": 1}, id="m-1")
    with to(server, serializer="cloudevents", body_format="batch") as c:
        c.send({"n": 1}, id="m-1")
    whole, beside, many = server.seen
    assert whole.headers["content-type"] == "application/cloudevents+json"
    assert (json.loads(whole.body)["type"], json.loads(whole.body)["data"]) == ("paid", {"n": 1})
    assert (beside.headers["content-type"], beside.body) == ("application/json", b'{"n":1}')
    assert (beside.headers["ce-id"], beside.headers["ce-type"]) == ("m-1", "Gr%C3%BC%C3%9Fe%201")
    assert json.loads(many.body)["events"][0]["id"] == "m-1"


def test_the_ping_is_signed_too(server: WebServer):
    """A server that takes nothing unsigned says 401 to it: that would keep the channel down for ever."""
    server.on_ping = lambda seen: Reply(204 if "webhook-signature" in seen.headers else 401)
    with to(server, {"signature": {"secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="}}) as c:
        assert c.send(1).status == "ok"
    seen = server.pings[0]
    signed = f"{seen.headers['webhook-id']}.{seen.headers['webhook-timestamp']}.".encode()
    digest = base64.b64encode(hmac.digest(b"0123456789abcdef", signed, "sha256")).decode()
    assert seen.headers["webhook-signature"] == f"v1,{digest}"


def test_a_ping_that_is_refused(server: WebServer):
    """The error says that it was the ping, and how the server may be asked otherwise, or not at all."""
    server.on_ping = lambda seen: Reply(401)
    error = refusal(url=Secret(server.url))
    assert isinstance(error, AccessError)
    assert "HEAD" in str(error)
    assert "ping_method" in str(error)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_signature(server: WebServer, compression: str):
    """Id, time and body are signed as standard-webhooks.com has it, with the new key and the old one."""
    key = b"0123456789abcdef"
    secret = "whsec_" + base64.b64encode(key).decode()
    signature = {"secret": secret, "old_secrets": ["older"]}
    with to(server, {"signature": signature}, compression=compression, compress_above=1) as c:
        c.send({"n": 1}, id="m-1")
    seen = server.seen[0]
    assert seen.headers["webhook-id"] == "m-1"
    stamp = seen.headers["webhook-timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    signed = b"m-1." + stamp.encode() + b"." + seen.raw
    wanted = [
        "v1," + base64.b64encode(hmac.digest(k, signed, hashlib.sha256)).decode() for k in (key, b"older")
    ]
    assert seen.headers["webhook-signature"].split(" ") == wanted


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compression_above_a_size(server: WebServer, compression: str):
    """Bodies from compress_above bytes on are compressed; smaller ones go as they are."""
    with to(server, compression=compression, compress_above=100) as c:
        c.send("x" * 99)
        c.send("x" * 10_000)
    small, large = server.seen
    assert "content-encoding" not in small.headers
    assert large.headers["content-encoding"] == compression
    assert len(large.raw) < 200
    assert large.body == b"x" * 10_000


# -- answers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 413, 418, 422, 304])
def test_statuses_that_are_fatal(server: WebServer, status: int):
    """No retry is spent on a 4xx; the error has the status and what the server said."""
    server.answer = lambda seen: Reply(status, b"" if status == 304 else b"because of the moon")
    with to(server) as c:
        outcome = c.send(1)
    assert (outcome.status, outcome.attempts) == ("fatal", 1)
    assert f"{status} " in str(outcome.error)
    assert status == 304 or "because of the moon" in str(outcome.error)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_statuses_that_are_retried(server: WebServer, status: int):
    """408, 425, 429 and 5xx are tried again, with the same id."""
    server.answer = replies(Reply(status, b"not now"), Reply(200))
    with to(server) as c:
        outcome = c.send(1)
    assert (outcome.status, outcome.attempts) == ("ok", 2)


def test_retry_after(server: WebServer):
    """The retry waits for as long as the server says, whatever the back-off."""
    times: list[float] = []

    def answer(seen: Seen) -> Reply:
        times.append(time.monotonic())
        return Reply(429, headers={"Retry-After": "1"}) if len(times) == 1 else Reply()

    server.answer = answer
    with to(server) as c:
        assert c.send(1).status == "ok"
    assert 0.95 <= times[1] - times[0] < 5


def test_retry_after_that_is_too_late(server: WebServer):
    """When the message would have expired by then, it expires now, with the refusal as the cause."""
    server.answer = lambda seen: Reply(503, headers={"Retry-After": "3600"})
    with to(server) as c:
        outcome = c.send(1)
    assert outcome.status == "expired"
    assert isinstance(outcome.error.__cause__, RejectedError)


def test_redirects_are_off(server: WebServer):
    """A redirect is fatal, and the error says where it leads."""
    server.answer = lambda seen: Reply(307, headers={"Location": "/there"})
    with to(server) as c:
        outcome = c.send(1)
    assert outcome.status == "fatal"
    assert "/there" in str(outcome.error)


def test_redirects_to_the_same_server(server: WebServer):
    """Where they are allowed, 307 is followed with method and body, as often as allowed and no more."""
    server.answer = lambda seen: Reply() if seen.path == "/c" else Reply(307, headers={"Location": "/c"})
    with to(server, {"redirects": 1}) as c:
        assert c.send({"n": 1}).status == "ok"
        server.answer = lambda seen: Reply(307, headers={"Location": "/d"})
        assert c.send({"n": 1}).status == "fatal"
    assert [(seen.method, seen.body) for seen in server.seen if seen.path == "/c"] == [("POST", b'{"n":1}')]


@pytest.mark.parametrize("place", ["../orders/7#top", "/orders/7", "//{host}/orders/7"])
def test_redirects_as_servers_write_them(server: WebServer, place: str):
    """A place is relative to what was asked for; a fragment, which RFC 9110 allows there, is not sent."""
    there = place.format(host=f"{server.host}:{server.port}")
    server.answer = lambda seen: Reply(307, b"", {"Location": there}) if seen.path == "/in/new" else Reply()
    with to(server, {"redirects": 1}, append_path="new") as c:
        assert c.send(1).status == "ok"
    assert [seen.target for seen in server.seen] == ["/orders/7"]


def test_redirects_to_another_server(server: WebServer):
    """They are never followed, for the message and our credentials are not meant for it."""
    with WebServer() as other:
        server.answer = lambda seen: Reply(307, headers={"Location": f"{other.url}/steal"})
        with to(server, {"redirects": 5}) as c:
            outcome = c.send(1)
        assert outcome.status == "fatal"
        assert other.url in str(outcome.error)
        assert other.connections == 0


@pytest.mark.parametrize("place", ["//[::1/x", "/a b", "ftp://shop.test/x"])
def test_redirects_that_lead_nowhere(server: WebServer, place: str):
    """A place that is no URL is fatal, and the error says so."""
    server.answer = lambda seen: Reply(307, headers={"Location": place})
    with to(server, {"redirects": 1}) as c:
        outcome = c.send(1)
    assert (outcome.status, outcome.attempts) == ("fatal", 1)
    assert "the server's redirect: " in str(outcome.error)


def test_an_answer_beyond_the_limit(server: WebServer):
    """No more than max_response_bytes of a body is kept, and the result says so."""
    server.answer = lambda seen: Reply(200, b"x" * 1_000_000)
    with to(server, {"max_response_bytes": 1_000}) as c:
        result = c.send(1).result
    assert (result.body, result.truncated) == (b"x" * 1_000, True)


def test_an_answer_with_a_header_that_is_no_text(server: WebServer):
    """What the server has taken is ok, whatever its headers hold; one that is not ASCII is left out."""
    server.answer = lambda seen: Reply(headers={"X-Shop": "Café", "X-A": "1"})
    with to(server) as c:
        outcome = c.send({"n": 1})
    assert (outcome.status, len(server.seen)) == ("ok", 1), outcome
    assert outcome.result.headers == {"content-length": "0", "x-a": "1"}


@pytest.mark.parametrize(
    "reply", [Reply(body=b"ab", short=98), Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"})]
)
def test_an_answer_whose_body_cannot_be_read(server: WebServer, reply: Reply):
    """The status has said that it was taken: it is ok, and not sent again for what its answer lacks."""
    server.answer = lambda seen: reply
    with to(server) as c:
        outcome = c.send({"n": 1})
    assert (outcome.status, len(server.seen)) == ("ok", 1), outcome
    assert outcome.result.truncated


def test_a_body_over_the_limit(server: WebServer):
    """A payload over max_body_bytes is fatal before it is sent; a batch is split to stay below."""
    with to(server, {"max_body_bytes": 200}) as c:
        outcome = c.send("x" * 201)
    assert isinstance(outcome.error, PayloadTooLargeError)
    with to(server, {"max_body_bytes": 200}, body_format="batch") as c:
        statuses = [outcome.status for outcome in c.send_many([{"t": "x" * 20}] * 20 + ["x" * 300])]
    assert statuses == ["ok"] * 20 + ["fatal"]
    assert max(len(seen.body) for seen in server.seen) <= 200
    assert len(server.seen) < 20


# -- batches ------------------------------------------------------------------------------------------------


def test_an_envelope(server: WebServer):
    """A batch is one request with events, timestamp and size."""
    with to(server, body_format="batch") as c:
        c.send_many([{"n": 1}, "text", 3])
    envelopes = [json.loads(seen.body) for seen in server.seen]
    assert [set(envelope) for envelope in envelopes] == [{"events", "timestamp", "size"}]
    assert envelopes[0]["events"] == [{"n": 1}, "text", 3]
    assert envelopes[0]["size"] == 3
    assert abs(envelopes[0]["timestamp"] - time.time()) < 60


@dataclasses.dataclass
class Order:
    id: int = 7
    n: int = 1


def test_the_id_in_each_event(server: WebServer):
    """Objects of many carry their message's id; one that has a field of that name is fatal, of any kind."""
    with to(server, body_format="ndjson", id_field="id") as c:
        assert c.send({"n": 1}, id="m-1").status == "ok"
        assert c.send({}, id="m-2").status == "ok"
        refused = [c.send(payload) for payload in ({"id": 7}, Order())]
    assert [seen.body for seen in server.seen] == [b'{"id":"m-1","n":1}\n', b'{"id":"m-2"}\n']
    assert [outcome.status for outcome in refused] == ["fatal"] * 2
    assert {str(outcome.error) for outcome in refused} == {
        "the payload has 'id' already; choose another id_field"
    }


def test_an_event_is_one_line(server: WebServer):
    """JSON that the user wrote over several lines is one line among many."""
    with to(server, body_format="ndjson") as c:
        assert c.send(msgspec.Raw(b'{"a":\n [1,\n2]}')).status == "ok"
    assert server.seen[0].body == b'{"a":[1,2]}\n'


def test_messages_with_other_options_go_apart(server: WebServer):
    """Messages share a request only when path and headers are the same."""
    with to(server, body_format="ndjson") as c:
        receipts = [c.app.publish("to", {"n": n}, headers={"X-Kind": str(n % 2)}) for n in range(10)]
        assert [receipt.outcomes(timeout_s=20)[0].status for receipt in receipts] == ["ok"] * 10
    for seen in server.seen:
        kinds = {json.loads(line)["n"] % 2 for line in seen.body.splitlines()}
        assert kinds == {int(seen.headers["x-kind"])}


def test_bad_events_in_a_batch(server: WebServer):
    """The server is asked about ever smaller halves: only the events that it refuses are fatal."""

    def answer(seen: Seen) -> Reply:
        return Reply(400, b"bad") if b'"bad"' in seen.body else Reply()

    server.answer = answer
    payloads = [{"n": n, "k": "bad" if n in (3, 77) else "good"} for n in range(100)]
    with to(server, body_format="batch") as c:
        outcomes = c.send_many(payloads)
    assert [n for n, outcome in enumerate(outcomes) if outcome.status == "fatal"] == [3, 77]
    arrived = [event["n"] for seen in server.seen for event in json.loads(seen.body)["events"]]
    assert sorted(arrived) == [n for n in range(100) if n not in (3, 77)]


def test_a_batch_refused_for_its_address(server: WebServer):
    """A status that is not about the content fails all at once, without asking again."""
    asked: list[Seen] = []

    def answer(seen: Seen) -> Reply:
        asked.append(seen)
        return Reply(404)

    server.answer = answer
    with to(server, body_format="batch") as c:
        outcomes = c.send_many([{"n": n} for n in range(100)])
    assert {outcome.status for outcome in outcomes} == {"fatal"}
    assert len(asked) == 1


# -- many in flight -----------------------------------------------------------------------------------------


def test_many_requests_in_flight(server: WebServer):
    """A worker whose server takes its time has up to max_connections requests out, over kept connections."""
    server.answer = lambda seen: Reply(delay_s=0.1)
    with to(server, {"max_connections": 16}) as c:
        began = time.monotonic()
        outcomes = c.send_many(list(range(100)))
        took_s = time.monotonic() - began
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert server.most == 16
    assert server.connections <= 18
    assert took_s < 5


def test_a_slow_request_holds_up_no_other(server: WebServer):
    """Requests that get no answer leave room for others."""
    server.answer = lambda seen: Reply(silent=b"stuck" in seen.body)
    with to(server, timeout_s=20) as c:
        stuck = [c.app.publish("to", "stuck") for _ in range(8)]
        wait_until(lambda: server.now == 0 and len(server.seen) >= 4)
        assert {outcome.status for outcome in c.send_many(list(range(50)))} == {"ok"}
        assert not any(receipt.done() for receipt in stuck)
        c.app.stop(timeout_s=0.1)


def test_a_slow_server_is_not_overrun(server: WebServer):
    """What waits for a free connection is not given up after attempt_timeout_s, and nothing is sent twice."""
    server.answer = lambda seen: Reply(delay_s=0.2)
    settings = {"attempt_timeout_s": 1.5, "on_unknown": "report"}
    with channel("http", {"url": server.url, "max_connections": 2}, settings, timeout_s=1) as c:
        receipt = c.app.publish_many("to", list(range(30)))
        assert {(outcome.status, outcome.attempts) for outcome in receipt.outcomes(timeout_s=20)} == {
            ("ok", 1)
        }
        assert c.send("later").status == "ok"
    assert len(server.seen) == 31


# -- losses -------------------------------------------------------------------------------------------------


def test_no_answer_is_unknown(server: WebServer):
    """A request that went out and is not answered in time has an unknown outcome."""
    server.answer = lambda seen: Reply(silent=True)
    with channel("http", {"url": server.url}, {"on_unknown": "report"}, timeout_s=0.3) as c:
        outcome = c.send(1)
    assert outcome.status == "unknown"
    assert "no answer within 0.3 s" in str(outcome.error)


def test_a_lost_answer_comes_again_with_the_same_id(server: WebServer):
    """When the connection breaks in place of an answer, the message is sent again under its id."""
    keys: list[str] = []

    def answer(seen: Seen) -> Reply:
        keys.append(seen.headers["idempotency-key"])
        return Reply(cut=len(keys) == 1)

    server.answer = answer
    with to(server) as c:
        outcome = c.send(1, id="m-1")
    assert (outcome.status, keys) == ("ok", ["m-1", "m-1"])


@pytest.mark.parametrize("divided", [False, True])
def test_after_a_loss_no_more_of_a_batch_is_sent(server: WebServer, divided: bool):
    """Of a batch that goes in parts, or in halves, nothing is written into the silence after a loss."""
    refused: list[bytes] = []
    unanswered: list[bytes] = []
    silent = threading.Event()
    silent.set()

    def answer(seen: Seen) -> Reply:
        if divided and not refused:
            refused.append(seen.body)
            return Reply(413)
        if silent.is_set():
            unanswered.append(seen.body)
            return Reply(silent=True)
        return Reply()

    def on_ping(seen: Seen) -> Reply:
        if unanswered:
            silent.clear()
        return Reply()

    server.answer, server.on_ping = answer, on_ping
    limit = {} if divided else {"max_body_bytes": 150}
    with to(server, limit, body_format="ndjson", timeout_s=0.3) as c:
        statuses = [outcome.status for outcome in c.send_many(["x" * 30] * 8)]
    assert statuses == ["ok"] * 8
    assert len(unanswered) == 1


def test_one_loss_does_not_take_others_with_it(server: WebServer):
    """Requests that are answered while another is lost are ok, and are not sent twice."""
    sent: list[bytes] = []
    started = threading.Event()

    def answer(seen: Seen) -> Reply:
        sent.append(seen.body)
        if seen.body == b"lost" and sent.count(b"lost") == 1:
            return Reply(cut=True)
        started.set()
        return Reply(delay_s=0.3)

    server.answer = answer
    with to(server) as c:
        outcomes = c.send_many(["a", "b", "lost", "c"])
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert sorted(sent) == [b"a", b"b", b"c", b"lost", b"lost"]


def test_a_refused_token_takes_the_channel_down(server: WebServer, caplog: pytest.LogCaptureFixture):
    """401 spends no attempt: the channel is down until the token works again, and then all is delivered."""
    server.token = "t0ken"
    with to(server, {"auth": {"token": "t0ken"}}) as c:
        assert c.send(1).status == "ok"
        server.token = "another"
        with caplog.at_level(logging.ERROR, "rambla_py"):
            receipt = c.app.publish("to", 2)
            wait_until(lambda: c.status().state == "down")
        assert not receipt.done()
        assert isinstance(c.status().last_error, str)
        assert "401" in caplog.text
        server.token = "t0ken"
        outcome = receipt.outcomes(timeout_s=20)[0]
    assert (outcome.status, outcome.attempts) == ("ok", 1)
    assert "t0ken" not in caplog.text


def test_a_message_that_is_refused_access_for_itself(server: WebServer):
    """When the credentials work but for one message, it alone fails, after its retries."""
    server.answer = lambda seen: Reply(401, b"not that") if seen.body == b"that" else Reply()
    with to(server, retries=1) as c:
        outcomes = c.send_many(["a", "that", "b"])
    assert [outcome.status for outcome in outcomes] == ["ok", "fatal", "ok"]
    assert isinstance(outcomes[1].error, AccessError)
    assert len(server.seen) == 2


def test_what_a_server_says_back_is_masked(server: WebServer):
    """A server that repeats our credentials does not put them into our errors."""
    server.answer = lambda seen: Reply(400, seen.headers["authorization"].encode())
    with to(server, {"auth": {"username": "shop", "password": "hunter2!"}}) as c:
        text = str(c.send(1).error)
    assert "***" in text
    assert base64.b64encode(b"shop:hunter2!").decode() not in text


def test_the_path_of_a_url_never_shows():
    """A path may be the secret, as with chat hooks: errors name the origin only."""
    error = refusal(url=Secret("http://127.0.0.1:1/services/T0/s3cr3t"))
    assert "127.0.0.1:1" in str(error)
    assert "s3cr3t" not in str(error)


def test_a_burst_of_resets(server: WebServer, fault_proxy: Callable[[Server], FaultProxy]):
    """Connections reset in a burst: each message has one outcome, what is ok has arrived, nothing is lost."""
    proxy = fault_proxy(server)  # type: ignore[arg-type]  # it asks for host and port
    with channel("http", {"host": proxy.host, "port": proxy.port}) as c:
        receipt = c.app.publish_many("to", list(range(1_000)))
        for size in (100, 300, 500):
            wait_until(lambda size=size: len(server.seen) >= size)
            proxy.reset()
        outcomes = receipt.outcomes(timeout_s=20)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert {int(seen.body) for seen in server.seen} == set(range(1_000))
    assert proxy.resets > 0


def test_what_waits_for_a_request_at_stop_was_not_sent(server: WebServer):
    """Only what was written and not answered is unknown at the end; the rest was dropped unsent."""
    received: list[bytes] = []

    def answer(seen: Seen) -> Reply:
        received.append(seen.body)
        return Reply(silent=len(received) > 4)

    server.answer = answer
    with to(server, {"max_connections": 2}) as c:
        receipt = c.app.publish_many("to", list(range(50)))
        wait_until(lambda: len(received) == 6)
        c.app.stop(timeout_s=0.1)
        statuses = Counter(outcome.status for outcome in receipt.outcomes(timeout_s=5))
    assert statuses == {"ok": 4, "unknown": 2, "dropped": 44}


def test_what_waits_for_a_request_expires(server: WebServer):
    """Time goes on for what was not written yet; what was, is not touched by it."""
    server.answer = lambda seen: Reply(delay_s=0.2)
    with to(server, {"max_connections": 2}, expires_s=0.5) as c:
        statuses = Counter(outcome.status for outcome in c.send_many(list(range(20))))
    assert statuses["expired"] >= 10
    assert len(server.seen) == statuses["ok"] <= 8


# -- connecting ---------------------------------------------------------------------------------------------


def test_tls(tls_server: WebServer, tls_files: TlsFiles):
    """A private authority is trusted when it is named."""
    with to(tls_server, {"tls": {"ca_file": str(tls_files.authority)}}) as c:
        assert c.send(1).status == "ok"


def test_tls_server_name(tls_server: WebServer, tls_files: TlsFiles):
    """A name that the certificate has is enough, whatever the address; the Host header stays the address."""
    tls = {"ca_file": str(tls_files.authority), "server_name": "localhost"}
    with to(tls_server, {"tls": tls}) as c:
        assert c.send(1).status == "ok"
    assert tls_server.seen[0].headers["host"] == f"{tls_server.host}:{tls_server.port}"


def test_tls_wrong_name(tls_server: WebServer, tls_files: TlsFiles):
    """A certificate for another name is refused as lost access."""
    tls = _tls(tls_files, server_name="elsewhere.test")
    error = refusal(scheme="https", host=tls_server.host, port=tls_server.port, tls=tls)
    assert isinstance(error, AccessError)
    assert "elsewhere.test" in str(error)


def test_tls_unknown_authority(tls_server: WebServer):
    """A certificate of an authority that nobody knows is refused as lost access."""
    error = refusal(url=Secret(tls_server.url))
    assert isinstance(error, AccessError)
    assert "UnknownIssuer" in str(error)


def test_tls_files_that_are_none(tmp_path: Any, tls_files: TlsFiles):
    """Files that hold no certificate are told, with the reason."""
    (tmp_path / "ca.pem").write_text("nonsense")
    for names in ({"ca_file": str(tmp_path / "ca.pem")}, {"ca_file": str(tmp_path / "none.pem")}):
        error = refusal(host="127.0.0.1", scheme="https", tls=_tls(tls_files, **names))
        assert isinstance(error, AccessError)
        assert "cannot read the files" in str(error)


def test_tls_client_certificate(tls_files: TlsFiles):
    """A server that wants a certificate gets ours; without one it refuses, which is lost access."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.certificate, tls_files.key)
    context.load_verify_locations(tls_files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with WebServer(tls=context) as server:
        files = {"cert_file": str(tls_files.certificate), "key_file": str(tls_files.key)}
        with to(server, {"tls": {"ca_file": str(tls_files.authority), **files}}) as c:
            assert c.send(1).status == "ok"
        assert "connection" in str(refusal(url=Secret(server.url), tls=_tls(tls_files)))


def _tls(tls_files: TlsFiles, **fields: Any) -> HttpTls:
    return HttpTls(**{"ca_file": str(tls_files.authority), **fields})


def test_a_proxy(server: WebServer):
    """Requests go through the proxy, which is asked for the whole URL."""
    with (
        WebServer() as proxy,
        channel(
            "http", {"url": "http://shop.test/in", "proxy": f"http://me:pw@{proxy.host}:{proxy.port}"}
        ) as c,
    ):
        assert c.send({"n": 1}).status == "ok"
        assert proxy.seen[0].target == "http://shop.test/in"
        assert proxy.seen[0].headers["proxy-authorization"].startswith("Basic ")


def test_a_proxy_for_tls(tls_server: WebServer, tls_files: TlsFiles):
    """TLS goes through a tunnel; a proxy that refuses our credentials is lost access."""
    tls = {"ca_file": str(tls_files.authority)}
    with WebServer() as proxy:
        proxy.login = ("me", "pw")
        with to(tls_server, {"tls": tls, "proxy": f"http://me:pw@{proxy.host}:{proxy.port}"}) as c:
            assert c.send({"n": 1}).status == "ok"
        assert {seen.target for seen in proxy.seen} == {f"{tls_server.host}:{tls_server.port}"}
        wrong = Secret(f"http://me:wr0ng@{proxy.host}:{proxy.port}")
        error = refusal(url=Secret(tls_server.url), tls=_tls(tls_files), proxy=wrong)
    assert isinstance(error, AccessError), error
    assert "wr0ng" not in str(error)
    assert [seen.body for seen in tls_server.seen] == [b'{"n":1}']


def test_a_proxy_that_is_not_there():
    """The error names the proxy too, without its password: it is what has to be looked at."""
    error = refusal(url=Secret("http://shop.test/in"), proxy=Secret("http://me:hunter2@127.0.0.1:1"))
    assert "shop.test through the proxy 127.0.0.1:1" in str(error)
    assert "hunter2" not in str(error)


def test_the_environments_proxy_is_not_read(server: WebServer, monkeypatch: pytest.MonkeyPatch):
    """What is not in the configuration does not send messages elsewhere."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with to(server) as c:
        assert c.send(1).status == "ok"


def test_a_name_with_several_addresses(server: WebServer):
    """The first address that answers is taken, and stays; the name stays in the Host header."""
    with channel("httpc", {"url": f"http://localhost:{server.port}/in"}) as c:
        assert c.send(1).status == "ok"
    assert server.seen[0].headers["host"] == f"localhost:{server.port}"


def test_a_name_that_leads_to_a_link_local_address():
    """A host that resolves to a link-local address is refused, whichever way it is written."""
    error = refusal(url=Secret("http://0xA9FEA9FE/latest/meta-data"))
    assert isinstance(error, AccessError)
    assert "169.254.169.254" in str(error)


def test_the_server_is_asked_before_messages_are_sent(server: WebServer):
    """Each connection begins with a HEAD; its answer does not matter, unless it is about credentials."""
    server.on_ping = lambda seen: Reply(404)
    with to(server) as c:
        assert c.send(1).status == "ok"
        assert [seen.path for seen in server.pings] == ["/in"]
    with to(server, {"ping_method": "none"}) as c:
        assert c.send(1).status == "ok"
    assert len(server.pings) == 1


def test_ping_says_that_a_server_is_out_of_order(server: WebServer):
    """503 to a ping is a server that does not work; 405 is one that does."""
    for status, ok in ((503, False), (405, True)):
        server.on_ping = lambda seen, status=status: Reply(status)
        with to(server) as c:
            assert [ping.ok for ping in c.app.ping()] == [ok]


def test_destination(server: WebServer):
    """A callable payload is given a client of pyreqwest."""

    def call(source: Any, destination: Any, options: Any) -> int:
        with destination.get(f"{server.url}/read").build_streamed() as response:
            return int(response.status)

    with to(server) as c:
        assert c.send(call).result == 200


_FORKING = """
import os, sys
import rambla_py as rambla

def publish(app, payload):
    return app.publish("to", payload).outcomes(timeout_s=10)[0].status

http = {"connections": {"main": {"url": sys.argv[1]}}, "channels": {"to": {}}}
with rambla.Rambla({"http": http}) as app:
    said = [publish(app, "parent before")]
    child = os.fork()
    if child == 0:
        os._exit(0 if publish(app, "child") == "ok" else 1)
    said.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    said.append(publish(app, "parent after"))
print(said)
"""


def test_a_forked_child_has_a_client_of_its_own(server: WebServer):
    """Parent and child both deliver after a fork, each over connections of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKING, server.url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.strip() == "['ok', 0, 'ok']", done.stderr
    assert [seen.body for seen in server.seen] == [b"parent before", b"child", b"parent after"]


def test_closing_wakes_who_waits(server: WebServer):
    """An app that is stopped does not wait for answers beyond its time."""
    server.answer = lambda seen: Reply(silent=True)
    with to(server) as c:
        receipt = c.app.publish("to", 1)
        wait_until(lambda: server.connections > 0 and c.status().in_flight > 0)
        began = time.monotonic()
        c.app.stop(timeout_s=0.1)
        assert time.monotonic() - began < 5
        assert receipt.outcomes(timeout_s=5)[0].status in ("dropped", "unknown")


def test_what_is_under_way_at_a_close_is_unknown(server: WebServer):
    """It may have been read; what comes after the close was never sent."""
    server.answer = lambda seen: Reply(silent=True)
    client = HttpClient(HttpConnection(url=Secret(server.url)), max_response_bytes=100)
    request = Request("POST", "/in", (), b"1", 10.0)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.send, request)
        wait_until(lambda: len(server.seen) == 1)
        client.close()
        assert type(sent.exception(timeout=5)) is UnknownOutcomeError
    with pytest.raises(ConnectionLostError, match="the connection was closed"):
        client.send(request)


def test_a_socket_that_only_listens():
    """A server that accepts and never answers is bounded by connect_timeout_s."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        error = refusal(host="127.0.0.1", port=listener.getsockname()[1], connect_timeout_s=0.3)
    assert time.monotonic() - began < 3
    assert "no answer within 0.3 s" in str(error)


# -- HTTP/2 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [True, False])
def test_http_2(tls_files: TlsFiles, secure: bool):
    """Over TLS the server chooses HTTP/2, without TLS it is asked for; many requests share one connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if secure else None
    connection: dict[str, Any] = {"http_version": "2"}
    if context is not None:
        context.load_cert_chain(tls_files.certificate, tls_files.key)
        connection = {"scheme": "https", "tls": {"ca_file": str(tls_files.authority)}}
    with Http2Server(tls=context, delay_s=0.05) as server:
        where = {"host": server.host, "port": server.port, "ping_method": "none"}
        with channel("http", {**where, **connection}) as c:
            outcomes = c.send_many(["x" * n for n in range(100)])
        assert {outcome.status for outcome in outcomes} == {"ok"}
        assert sorted(server.bodies, key=len) == [b"x" * n for n in range(100)]
        assert server.most > 4
        assert server.connections < server.most
