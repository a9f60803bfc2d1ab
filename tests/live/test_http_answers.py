"""Tests of what the http handler does with the answers of a real server."""

from __future__ import annotations

import time

import pytest
from http_app import replies, to
from web_server import Reply, Seen, WebServer

from rambla_py.errors import (
    PayloadTooLargeError,
)


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 413, 418, 422, 501, 505, 304])
def test_statuses_that_are_fatal(web_server: WebServer, status: int):
    """No retry is spent on a 4xx; the error has the status, and not the body, which may contain data."""
    web_server.answer = lambda seen: Reply(status, b"" if status == 304 else b"<html>4111-1111</html>")
    with to(web_server) as c:
        outcome = c.send(1)
    assert (outcome.status, outcome.attempts) == ("fatal", 1)
    assert f"{status} " in str(outcome.error)
    assert "4111" not in str(outcome.error)
    assert "html" not in str(outcome.error)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_statuses_that_are_retried(web_server: WebServer, status: int):
    """408, 425, 429 and most 5xx are tried again, with the same id."""
    web_server.answer = replies(Reply(status, b"not now"), Reply(200))
    with to(web_server) as c:
        outcome = c.send(1)
    assert (outcome.status, outcome.attempts) == ("ok", 2)


def test_retry_after(web_server: WebServer):
    """The retry waits for as long as the server says, whatever the back-off."""
    times: list[float] = []

    def answer(seen: Seen) -> Reply:
        times.append(time.monotonic())
        return Reply(429, headers={"Retry-After": "1"}) if len(times) == 1 else Reply()

    web_server.answer = answer
    with to(web_server) as c:
        assert c.send(1).status == "ok"
    assert 0.95 <= times[1] - times[0] < 5


def test_redirects_are_off(web_server: WebServer):
    """A redirect is fatal, and the error says where it leads."""
    web_server.answer = lambda seen: Reply(307, headers={"Location": "/there"})
    with to(web_server) as c:
        outcome = c.send(1)
    assert outcome.status == "fatal"
    assert "/there" in str(outcome.error)


def test_redirects_to_the_same_server(web_server: WebServer):
    """Where they are allowed, 307 is followed with method and body, as often as allowed and no more."""
    web_server.answer = lambda seen: Reply() if seen.path == "/c" else Reply(307, headers={"Location": "/c"})
    with to(web_server, {"redirects": 1}) as c:
        assert c.send({"n": 1}).status == "ok"
        web_server.answer = lambda seen: Reply(307, headers={"Location": "/d"})
        assert c.send({"n": 1}).status == "fatal"
    assert [(seen.method, seen.body) for seen in web_server.seen if seen.path == "/c"] == [
        ("POST", b'{"n":1}')
    ]


@pytest.mark.parametrize("place", ["../orders/7#top", "/orders/7", "//{host}/orders/7"])
def test_redirects_as_servers_write_them(web_server: WebServer, place: str):
    """A place is relative to what was asked for; a fragment, which RFC 9110 allows there, is not sent."""
    there = place.format(host=f"{web_server.host}:{web_server.port}")
    web_server.answer = lambda seen: (
        Reply(307, b"", {"Location": there}) if seen.path == "/in/new" else Reply()
    )
    with to(web_server, {"redirects": 1}, append_path="new") as c:
        assert c.send(1).status == "ok"
    assert [seen.target for seen in web_server.seen] == ["/orders/7"]


def test_redirects_to_another_server(web_server: WebServer):
    """They are never followed, for the message and our credentials are not meant for it."""
    with WebServer() as other:
        web_server.answer = lambda seen: Reply(307, headers={"Location": f"{other.url}/steal"})
        with to(web_server, {"redirects": 5}) as c:
            outcome = c.send(1)
        assert outcome.status == "fatal"
        assert other.url in str(outcome.error)
        assert other.connections == 0


@pytest.mark.parametrize("place", ["//[::1/x", "/a b", "ftp://shop.test/x"])
def test_redirects_that_lead_nowhere(web_server: WebServer, place: str):
    """A place that is no URL is fatal, and the error says so."""
    web_server.answer = lambda seen: Reply(307, headers={"Location": place})
    with to(web_server, {"redirects": 1}) as c:
        outcome = c.send(1)
    assert (outcome.status, outcome.attempts) == ("fatal", 1)
    assert "the server's redirect: " in str(outcome.error)


def test_an_answer_beyond_the_limit(web_server: WebServer):
    """No more than max_response_bytes of a body is kept, and the result says so."""
    web_server.answer = lambda seen: Reply(200, b"x" * 1_000_000)
    with to(web_server, {"max_response_bytes": 1_000}) as c:
        result = c.send(1).result
    assert (result.body, result.truncated) == (b"x" * 1_000, True)


def test_an_answer_with_a_header_that_is_no_text(web_server: WebServer):
    """What the server has taken is ok, whatever its headers hold; one that is not ASCII is left out."""
    web_server.answer = lambda seen: Reply(headers={"X-Shop": "Café", "X-A": "1"})
    with to(web_server) as c:
        outcome = c.send({"n": 1})
    assert (outcome.status, len(web_server.seen)) == ("ok", 1), outcome
    assert outcome.result.headers == {"content-length": "0", "x-a": "1"}


@pytest.mark.parametrize(
    "reply", [Reply(body=b"ab", short=98), Reply(body=b"no gzip", headers={"Content-Encoding": "gzip"})]
)
def test_an_answer_whose_body_cannot_be_read(web_server: WebServer, reply: Reply):
    """The status has said that it was taken: it is ok, and not sent again for what its answer lacks."""
    web_server.answer = lambda seen: reply
    with to(web_server) as c:
        outcome = c.send({"n": 1})
    assert (outcome.status, len(web_server.seen)) == ("ok", 1), outcome
    assert outcome.result.truncated


def test_a_body_over_the_limit(web_server: WebServer):
    """A payload over max_body_bytes is fatal before it is sent; a batch is split to stay below."""
    with to(web_server, {"max_body_bytes": 200}) as c:
        outcome = c.send("x" * 201)
    assert isinstance(outcome.error, PayloadTooLargeError)
    with to(web_server, {"max_body_bytes": 200}, body_format="batch") as c:
        statuses = [outcome.status for outcome in c.send_many([{"t": "x" * 20}] * 20 + ["x" * 300])]
    assert statuses == ["ok"] * 20 + ["fatal"]
    assert max(len(seen.body) for seen in web_server.seen) <= 200
    assert len(web_server.seen) < 20
