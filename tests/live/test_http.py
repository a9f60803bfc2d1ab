"""Tests of the requests of the http handler, against a real server."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import pytest
from http_app import channel, refusal, to
from web_server import Reply, WebServer

from rambla_py.errors import (
    AccessError,
    PermanentError,
)
from rambla_py.handler import Secret


def test_a_request(web_server: WebServer):
    """Method, path, query, headers, id and body arrive; status, headers and body come back."""
    web_server.answer = lambda seen: Reply(201, b'{"id":7}', {"Location": "/orders/7", "X-A": "1"})
    with to(
        web_server,
        {"query": {"v": "2"}},
        method="PUT",
        append_path="orders/a b",
        append_query={"q": ["x", 1]},
    ) as c:
        outcome = c.send({"n": 1}, id="m-1", headers={"X-Kind": "test", "X-Number": 5})
    seen = web_server.seen[0]
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
def test_content_types(web_server: WebServer, payload: Any, media: str):
    """The media type follows the payload; a header of the message's own wins."""
    with to(web_server) as c:
        c.send(payload)
        c.send(payload, headers={"Content-Type": "application/vnd.shop+json"})
    kinds = [seen.headers["content-type"] for seen in web_server.seen]
    assert kinds == [media, "application/vnd.shop+json"]


def test_merge_url(web_server: WebServer):
    """A relative URL replaces what it names, as RFC 3986 has it."""
    with to(web_server) as c:
        c.send(1, merge_url="other?x=1")
        c.send(1, merge_url="?y=2")
    assert [seen.target for seen in web_server.seen] == ["/other?x=1", "/in?y=2"]


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
def test_injection_is_refused(web_server: WebServer, options: dict[str, Any]):
    """What would lead to another place, or out of its header, is fatal before anything is sent."""
    with to(web_server) as c:
        outcome = c.send(1, **options)
    assert (outcome.status, outcome.attempts) == ("fatal", 1), outcome
    assert type(outcome.error) is PermanentError
    assert web_server.seen == []


def test_a_segment_may_hold_anything(web_server: WebServer):
    """An item of a list is one segment: a slash or a question mark in it does not end it."""
    with to(web_server) as c:
        c.send(1, append_path=["a/b?c#d%2f"])
    assert web_server.seen[0].target == "/in/a%2Fb%3Fc%23d%252f"


def test_the_query_of_the_connection_is_in_every_request(web_server: WebServer):
    """A URL that is merged brings a query of its own, and does not take away what every request is to have."""
    with to(web_server, {"query": {"key": "k"}, "ping_path": "/health"}) as c:
        c.send(1)
        c.send(2, merge_url="/other?a=1", append_query={"b": 2})
        c.send(3, merge_url="/other")
    assert [seen.target for seen in web_server.seen] == ["/in?key=k", "/other?a=1&key=k&b=2", "/other?key=k"]
    assert [seen.target for seen in web_server.pings] == ["/health?key=k"]


def test_an_id_that_no_header_holds(web_server: WebServer):
    """An id that is not visible ASCII is percent-encoded, and does not fail the message."""
    with to(web_server) as c:
        assert c.send(1, id="Größe\n4").status == "ok"
    assert web_server.seen[0].headers["idempotency-key"] == "Gr%C3%B6%C3%9Fe%0A4"


def test_a_user_and_password_of_the_url(web_server: WebServer):
    """They are sent as Basic, and stand in no path and no error."""
    web_server.login = ("shop", "p@ss")
    with channel("http", {"url": f"http://shop:p%40ss@{web_server.host}:{web_server.port}/in"}) as c:
        assert c.send(1).status == "ok"
    assert web_server.seen[0].target == "/in"


def test_a_token(web_server: WebServer):
    """A token is sent as Bearer; or alone in the header that is named."""
    web_server.token = "t0ken"
    with to(web_server, {"auth": {"token": "t0ken"}}) as c:
        assert c.send(1).status == "ok"
    web_server.token = None
    with to(web_server, {"auth": {"token": "t0ken", "header": "X-Api-Key"}}) as c:
        c.send(1)
    assert web_server.seen[1].headers["x-api-key"] == "t0ken"


def test_cloud_events(web_server: WebServer):
    """An event goes whole, as its attributes beside its data, or as one of many, with the media types for it."""
    with to(web_server, serializer="cloudevents", event_type="paid") as c:
        c.send({"n": 1}, id="m-1")
    with to(web_server, serializer="cloudevents-binary", event_type="Grüße 1") as c:
        c.send({"n": 1}, id="m-1")
    with to(web_server, serializer="cloudevents", body_format="batch") as c:
        c.send({"n": 1}, id="m-1")
    whole, beside, many = web_server.seen
    assert whole.headers["content-type"] == "application/cloudevents+json"
    assert (json.loads(whole.body)["type"], json.loads(whole.body)["data"]) == ("paid", {"n": 1})
    assert (beside.headers["content-type"], beside.body) == ("application/json", b'{"n":1}')
    assert (beside.headers["ce-id"], beside.headers["ce-type"]) == ("m-1", "Gr%C3%BC%C3%9Fe%201")
    assert json.loads(many.body)["events"][0]["id"] == "m-1"


def test_the_ping_is_signed_too(web_server: WebServer):
    """A server that takes nothing unsigned says 401 to it: that would keep the channel down for ever."""
    web_server.on_ping = lambda seen: Reply(204 if "webhook-signature" in seen.headers else 401)
    with to(web_server, {"signature": {"secret": "whsec_MDEyMzQ1Njc4OWFiY2RlZg=="}}) as c:
        assert c.send(1).status == "ok"
    seen = web_server.pings[0]
    signed = f"{seen.headers['webhook-id']}.{seen.headers['webhook-timestamp']}.".encode()
    digest = base64.b64encode(hmac.digest(b"0123456789abcdef", signed, "sha256")).decode()
    assert seen.headers["webhook-signature"] == f"v1,{digest}"


def test_a_ping_that_is_refused(web_server: WebServer):
    """The error says that it was the ping, and how the server may be asked otherwise, or not at all."""
    web_server.on_ping = lambda seen: Reply(401)
    error = refusal(url=Secret(web_server.url))
    assert isinstance(error, AccessError)
    assert "HEAD" in str(error)
    assert "ping_method" in str(error)


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_signature(web_server: WebServer, compression: str):
    """Id, time and body are signed as standard-webhooks.com has it, with the new key and the old one."""
    key = b"0123456789abcdef"
    secret = "whsec_" + base64.b64encode(key).decode()
    signature = {"secret": secret, "old_secrets": ["older"]}
    with to(web_server, {"signature": signature}, compression=compression, compress_above=1) as c:
        c.send({"n": 1}, id="m-1")
    seen = web_server.seen[0]
    assert seen.headers["webhook-id"] == "m-1"
    stamp = seen.headers["webhook-timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    signed = b"m-1." + stamp.encode() + b"." + seen.raw
    wanted = [
        "v1," + base64.b64encode(hmac.digest(k, signed, hashlib.sha256)).decode() for k in (key, b"older")
    ]
    assert seen.headers["webhook-signature"].split(" ") == wanted


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_compression_above_a_size(web_server: WebServer, compression: str):
    """Bodies from compress_above bytes on are compressed; smaller ones go as they are."""
    with to(web_server, compression=compression, compress_above=100) as c:
        c.send("x" * 99)
        c.send("x" * 10_000)
    small, large = web_server.seen
    assert "content-encoding" not in small.headers
    assert large.headers["content-encoding"] == compression
    assert len(large.raw) < 200
    assert large.body == b"x" * 10_000
