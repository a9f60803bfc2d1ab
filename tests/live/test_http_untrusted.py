"""Tests of the http handler with input from untrusted sources."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from http_app import channel, to
from web_server import Reply, WebServer

import rambla_py as rambla

BAD = "bad\udcff"


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"token": "t0ken"}, "authorization"),
        ({"token": "t0ken", "header": "X-Api-Key"}, "x-api-key"),
    ],
)
def test_an_envelope_cannot_replace_credentials(web_server: WebServer, auth: dict[str, str], header: str):
    """A dict that sets the header of the connection's credentials is a payload; code may set that header."""
    settings = {"envelope": ["headers", "append_path"]}
    with channel("http", {"url": f"{web_server.url}/in", "auth": auth}, settings) as c:
        c.send({"message": 1, "headers": {header: "forged"}, "append_path": "x"})
        c.send({"message": 1, "headers": {"X-Kind": "paid"}, "append_path": "x"})
        c.send(1, headers={header: "chosen"})
    forged, opened, chosen = web_server.seen
    assert (forged.path, forged.headers[header].removeprefix("Bearer ")) == ("/in", "t0ken")
    assert (opened.path, opened.headers["x-kind"], opened.body) == ("/in/x", "paid", b"1")
    assert chosen.headers[header] == "chosen"


@pytest.mark.parametrize("header", ["Host", "cookie", "Idempotency-Key", "webhook-signature"])
def test_an_envelope_cannot_set_headers_that_servers_act_on(web_server: WebServer, header: str):
    """A dict that sets one of them is a payload, and its header is not sent."""
    connection = {"url": f"{web_server.url}/in", "signature": {"secret": "key"}}
    with channel("http", connection, {"envelope": ["headers"]}) as c:
        assert c.send({"message": 1, "headers": {header: "forged"}}).status == "ok"
    assert b"forged" in web_server.seen[0].body
    assert web_server.seen[0].headers.get(header.lower()) != "forged"


@pytest.mark.parametrize("body_format", ["single", "batch", "ndjson"])
@pytest.mark.parametrize("options", [{"append_path": [BAD]}, {"append_query": {"q": BAD}}])
def test_lone_surrogates_fail_their_message_alone(web_server: WebServer, body_format: str, options: Any):
    """A lone surrogate is fatal at the first attempt; the other messages of the batch arrive once."""
    with to(web_server, body_format=body_format) as c:
        messages = [rambla.Message(n) for n in range(5)]
        messages[2] = rambla.Message(2, **options)
        outcomes = c.send_many(messages)
    assert [(outcome.status, outcome.attempts) for outcome in outcomes] == [
        ("fatal" if n == 2 else "ok", 1) for n in range(5)
    ]
    assert isinstance(outcomes[2].error, rambla.RamblaError)


def test_data_stays_out_of_logs(web_server: WebServer, caplog: pytest.LogCaptureFixture):
    """Neither the log nor the status quotes what a server answers, or the connection's query."""
    web_server.answer = lambda seen: Reply(422, b"<html>card 4111-1111 is wrong</html>")
    with caplog.at_level(logging.DEBUG), to(web_server, {"query": {"code": "s3cr3t-c0de"}}) as c:
        outcome = c.send({"card": "4111-1111"})
        status = c.status()
    assert "422" in caplog.text
    for text in (caplog.text, str(status), str(outcome.error)):
        assert "4111" not in text
        assert "html" not in text
        assert "s3cr3t" not in text


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e18, -1, 0])
def test_durations_are_bounded(seconds: float):
    """A duration that no timer takes is refused when the configuration is read, or by the call."""
    for connection, options in (({"connect_timeout_s": seconds}, {}), ({}, {"timeout_s": seconds})):
        with (
            pytest.raises(rambla.ConfigError, match="timeout_s"),
            channel("http", {"url": "http://127.0.0.1:1", **connection}, **options),
        ):
            pass


def test_the_longest_durations(web_server: WebServer):
    """The longest duration that is accepted works."""
    with to(web_server, {"connect_timeout_s": 1e9}, timeout_s=1e9) as c:
        assert c.send(1).status == "ok"
