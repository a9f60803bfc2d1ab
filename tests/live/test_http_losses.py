"""Tests of requests of the http handler that have no answer."""

from __future__ import annotations

import base64
import logging
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from http_app import TIMEOUT_S, channel, refusal, to
from waiting import wait_until
from web_server import Reply, Seen, WebServer

from rambla_py.errors import (
    AccessError,
)
from rambla_py.handler import Secret
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.processes import deadline
from rambla_py.testing.servers import Server


def test_no_answer_is_unknown(web_server: WebServer):
    """A request that went out and is not answered in time has an unknown outcome."""
    web_server.answer = lambda seen: Reply(silent=True)
    with channel("http", {"url": web_server.url}, {"on_unknown": "report"}, timeout_s=0.3) as c:
        outcome = c.send(1)
    assert outcome.status == "unknown"
    assert "no answer within 0.3 s" in str(outcome.error)


def test_a_lost_answer_comes_again_with_the_same_id(web_server: WebServer):
    """When the connection breaks in place of an answer, the message is sent again under its id."""
    keys: list[str] = []

    def answer(seen: Seen) -> Reply:
        keys.append(seen.headers["idempotency-key"])
        return Reply(cut=len(keys) == 1)

    web_server.answer = answer
    with to(web_server) as c:
        outcome = c.send(1, id="m-1")
    assert (outcome.status, keys) == ("ok", ["m-1", "m-1"])


@pytest.mark.parametrize("divided", [False, True])
def test_after_a_loss_no_more_of_a_batch_is_sent(web_server: WebServer, divided: bool):
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

    web_server.answer, web_server.on_ping = answer, on_ping
    limit = {} if divided else {"max_body_bytes": 150}
    with to(web_server, limit, body_format="ndjson", timeout_s=0.3) as c:
        statuses = [outcome.status for outcome in c.send_many(["x" * 30] * 8)]
    assert statuses == ["ok"] * 8
    assert len(unanswered) == 1


def test_one_loss_does_not_take_others_with_it(web_server: WebServer):
    """Requests that are answered while another is lost are ok, and are not sent twice."""
    sent: list[bytes] = []
    started = threading.Event()

    def answer(seen: Seen) -> Reply:
        sent.append(seen.body)
        if seen.body == b"lost" and sent.count(b"lost") == 1:
            return Reply(cut=True)
        started.set()
        return Reply(delay_s=0.3)

    web_server.answer = answer
    with to(web_server) as c:
        outcomes = c.send_many(["a", "b", "lost", "c"])
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert sorted(sent) == [b"a", b"b", b"c", b"lost", b"lost"]


def test_a_refused_token_takes_the_channel_down(web_server: WebServer, caplog: pytest.LogCaptureFixture):
    """401 spends no retry: the channel is down until the token is accepted, and then all is delivered."""
    web_server.token = "t0ken"
    with to(web_server, {"auth": {"token": "t0ken"}}) as c:
        assert c.send(1).status == "ok"
        web_server.token = "another"
        with caplog.at_level(logging.ERROR, "rambla_py"):
            receipt = c.app.publish("to", 2)
            wait_until(lambda: c.status().state == "down")
        assert not receipt.done()
        assert isinstance(c.status().last_error, str)
        assert "401" in caplog.text
        web_server.token = "t0ken"
        outcome = receipt.outcomes(timeout_s=20)[0]
    assert outcome.status == "ok"
    assert "t0ken" not in caplog.text


def test_a_message_that_is_refused_access_for_itself(web_server: WebServer):
    """If the credentials are refused for one message only, the others are delivered, and it alone fails."""
    web_server.answer = lambda seen: Reply(401) if seen.body == b"that" else Reply()
    settings = {"max_unavailable_s": 0.2, "max_reconnect_s": 0.1}
    with channel("http", {"url": web_server.url}, settings, retries=0) as c:
        receipt = c.app.publish("to", "that")
        for _ in deadline(TIMEOUT_S, poll_s=0.02):
            assert c.send("other").status == "ok"
            if receipt.done():
                break
        outcome = receipt.outcomes(timeout_s=TIMEOUT_S)[0]
    assert outcome.status == "fatal"
    assert isinstance(outcome.error, AccessError)


def test_credentials_that_a_server_repeats_are_masked(web_server: WebServer):
    """A server that repeats the credentials does not put them into errors."""
    web_server.answer = lambda seen: Reply(301, headers={"Location": "/" + seen.headers["authorization"]})
    with to(web_server, {"auth": {"username": "shop", "password": "hunter2!"}}) as c:
        text = str(c.send(1).error)
    assert "***" in text
    assert base64.b64encode(b"shop:hunter2!").decode() not in text


def test_the_path_of_a_url_never_shows():
    """A path may be the secret, as with chat hooks: errors name the origin only."""
    error = refusal(url=Secret("http://127.0.0.1:1/services/T0/s3cr3t"))
    assert "127.0.0.1:1" in str(error)
    assert "s3cr3t" not in str(error)


def test_a_burst_of_resets(web_server: WebServer, fault_proxy: Callable[[Server], FaultProxy]):
    """Connections reset in a burst: each message has one outcome, what is ok has arrived, nothing is lost."""
    proxy = fault_proxy(web_server)  # type: ignore[arg-type]  # it asks for host and port
    with channel("http", {"host": proxy.host, "port": proxy.port}) as c:
        receipt = c.app.publish_many("to", list(range(1_000)))
        for size in (100, 300, 500):
            wait_until(lambda size=size: len(web_server.seen) >= size)
            proxy.reset()
        outcomes = receipt.outcomes(timeout_s=20)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert {int(seen.body) for seen in web_server.seen} == set(range(1_000))
    assert proxy.resets > 0


def test_what_waits_for_a_request_at_stop_was_not_sent(web_server: WebServer):
    """Only what was written and not answered is unknown at the end; the rest was dropped unsent."""
    received: list[bytes] = []

    def answer(seen: Seen) -> Reply:
        received.append(seen.body)
        return Reply(silent=len(received) > 4)

    web_server.answer = answer
    with to(web_server, {"max_connections": 2}) as c:
        receipt = c.app.publish_many("to", list(range(50)))
        wait_until(lambda: len(received) == 6)
        c.app.stop(timeout_s=0.1)
        statuses = Counter(outcome.status for outcome in receipt.outcomes(timeout_s=5))
    assert statuses == {"ok": 4, "unknown": 2, "dropped": 44}


def test_what_waits_for_a_request_expires(web_server: WebServer):
    """Time goes on for what was not written yet; what was, is not touched by it."""
    web_server.answer = lambda seen: Reply(delay_s=0.2)
    with to(web_server, {"max_connections": 2}, expires_s=0.5) as c:
        statuses = Counter(outcome.status for outcome in c.send_many(list(range(20))))
    assert statuses["expired"] >= 10
    assert len(web_server.seen) == statuses["ok"] <= 8
