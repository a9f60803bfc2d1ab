"""Tests of servers over HTTP that are unavailable, slow or unreliable: what waits, and what goes on."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest
from http_app import TIMEOUT_S, channel, replies, to
from waiting import wait_until
from web_server import Reply, Seen, WebServer

from rambla_py.errors import UnknownOutcomeError


@pytest.mark.parametrize("status", [429, 503])
def test_unavailable_servers_cost_no_retries(web_server: WebServer, status: int):
    """While a server is unavailable nothing is lost, even without retries; then everything is delivered."""
    well = threading.Event()
    web_server.answer = lambda seen: Reply() if well.is_set() else Reply(status)
    with to(web_server, retries=0) as c:
        receipt = c.app.publish_many("to", list(range(20)))
        wait_until(lambda: c.status().last_error is not None)
        assert not receipt.done()
        well.set()
        outcomes = receipt.outcomes(timeout_s=TIMEOUT_S)
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert max(outcome.attempts for outcome in outcomes) > 1
    assert {int(seen.body) for seen in web_server.seen} == set(range(20))


def test_retry_after_of_an_unavailable_server(web_server: WebServer):
    """The next try comes no sooner than the server asked for."""
    times: list[float] = []

    def answer(seen: Seen) -> Reply:
        times.append(time.monotonic())
        return Reply(503, headers={"Retry-After": "2"}) if len(times) == 1 else Reply()

    web_server.answer = answer
    with to(web_server, retries=0) as c:
        assert c.send(1).status == "ok"
    assert 1.9 <= times[1] - times[0] < 6


def test_other_paths_go_on(web_server: WebServer):
    """Only messages for the path that is unavailable wait; those for other paths are delivered."""
    well = threading.Event()
    web_server.answer = lambda seen: Reply(503 if seen.path == "/in/a" and not well.is_set() else 200)
    with to(web_server, retries=0) as c:
        waiting = [c.app.publish("to", n, append_path="a") for n in range(5)]
        wait_until(lambda: c.status().last_error is not None)
        assert {c.send(n, append_path="b").status for n in range(20)} == {"ok"}
        assert not any(receipt.done() for receipt in waiting)
        well.set()
        assert {receipt.outcomes(timeout_s=TIMEOUT_S)[0].status for receipt in waiting} == {"ok"}


def test_statuses_of_a_channel(web_server: WebServer):
    """A channel's own list replaces the default: 404 waits, and 503 is a failed attempt."""
    web_server.answer = replies(Reply(404), Reply(200), Reply(503))
    with to(web_server, retries=0, unavailable_statuses=[404]) as c:
        assert c.send(1).status == "ok"
        assert c.send(2).status == "fatal"


@pytest.mark.parametrize("status", [502, 504])
@pytest.mark.parametrize("report", [False, True])
def test_gateways_without_an_answer(web_server: WebServer, status: int, report: bool):
    """After 502 and 504 the outcome of that message is unknown: it spends a retry, or is reported."""
    web_server.answer = lambda seen: Reply(status) if seen.body == b"bad" else Reply()
    settings = {"on_unknown": "report"} if report else {}
    with channel("http", {"url": f"{web_server.url}/in"}, settings, retries=1) as c:
        outcomes = c.send_many(["a", "bad", "b"])
        assert len(web_server.pings) == 1
    wanted = ("unknown", 1) if report else ("fatal", 2)
    assert [(outcome.status, outcome.attempts) for outcome in outcomes] == [("ok", 1), wanted, ("ok", 1)]
    assert isinstance(outcomes[1].error, UnknownOutcomeError)


@pytest.mark.parametrize("reply", [Reply(silent=True), Reply(cut=True)], ids=["silent", "cut"])
def test_a_few_bad_messages_do_not_affect_the_others(web_server: WebServer, reply: Reply):
    """With 2 % of requests that are never answered, or cut off, the others arrive once and the state stays up."""
    web_server.answer = lambda seen: reply if seen.body.endswith(b"bad") else Reply(delay_s=0.002)
    states: set[str] = set()
    with to(web_server, timeout_s=0.5, retries=1) as c:
        receipts = []
        for n in range(400):
            receipts.append(c.app.publish("to", f"{n}bad" if n % 50 == 7 else str(n)))
            states.add(c.status().state)
            threading.Event().wait(0.003)
        outcomes = [receipt.outcomes(timeout_s=TIMEOUT_S)[0] for receipt in receipts]
    counts = Counter(outcome.status for outcome in outcomes)
    assert counts == {"ok": 392, "fatal": 8}
    arrived = Counter(bytes(seen.body) for seen in web_server.seen if not seen.body.endswith(b"bad"))
    assert len(arrived) == 392
    assert max(arrived.values()) == 1
    assert max(outcome.queued_s for outcome in outcomes if outcome.status == "ok") < 1.5
    assert states <= {"idle", "connecting", "up"}


def test_a_silent_server_is_lost(web_server: WebServer):
    """If a server answers nothing any more, messages wait for it without spending their retries."""
    silent = threading.Event()

    def answer(seen: Seen) -> Reply:
        return Reply(silent=True) if silent.is_set() else Reply()

    def on_ping(seen: Seen) -> Reply:
        return Reply(silent=True) if silent.is_set() else Reply()

    web_server.answer, web_server.on_ping = answer, on_ping
    with to(web_server, {"connect_timeout_s": 0.3}, timeout_s=0.3, retries=1) as c:
        assert c.send(0).status == "ok"
        silent.set()
        receipt: Any = c.app.publish_many("to", list(range(1, 11)))
        wait_until(lambda: c.status().state == "connecting")
        wait_until(lambda: len(web_server.pings) > 3)
        assert not receipt.done()
        silent.clear()
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)} == {"ok"}
