"""Requests of many messages that hang, and servers that take none for a while: all handlers over HTTP alike."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from http_app import TIMEOUT_S
from waiting import wait_until
from web_peers import MANY, PEERS, Peer, event, numbers
from web_server import Reply, Seen, WebServer

every_peer = pytest.mark.parametrize("peer", PEERS.values(), ids=list(PEERS))
peers_of_many = pytest.mark.parametrize(
    "peer",
    [peer for name, peer in PEERS.items() if name != "http"],
    ids=[name for name in PEERS if name != "http"],
)

peers_by_size = pytest.mark.parametrize(
    "peer",
    [PEERS[name] for name in ("http-batch", "http-ndjson", "clickhouse", "jitsu")],
    ids=["http-batch", "http-ndjson", "clickhouse", "jitsu"],
)


class Server:
    """The answers of the web server; ``sent`` has the messages of each request, answered or not."""

    def __init__(self, web_server: WebServer, peer: Peer) -> None:
        self.peer = peer
        self.sent: list[list[int]] = []
        self.refusal: Reply | None = None
        self.bad: set[int] = set()
        self.hangs = Reply(silent=True)
        web_server.answer = self.answer

    def answer(self, seen: Seen) -> Reply:
        found = numbers(seen)
        if not found:
            return self.peer.ok
        self.sent.append(found)
        if self.bad & set(found):
            return self.hangs
        return self.refusal or self.peer.ok


@peers_of_many
def test_one_of_a_request_that_hangs_fails_alone(web_server: WebServer, peer: Peer):
    """The others are sent once more, alone, without using up a retry; they wait for one time-out only."""
    server = Server(web_server, peer)
    server.bad = {MANY // 2}
    with peer.app(web_server, timeout_s=1.0) as c:
        outcomes = c.send_many([event(n) for n in range(MANY)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.status != "ok"] == [MANY // 2]
    assert (outcomes[MANY // 2].status, outcomes[MANY // 2].attempts) == ("fatal", 2)
    copies = Counter(n for found in server.sent for n in found)
    assert max(copies.values()) == 2


@peers_of_many
@pytest.mark.parametrize("status", [502, 504])
def test_one_that_a_gateway_has_no_answer_for_fails_alone(web_server: WebServer, peer: Peer, status: int):
    """The others are sent once more, without using up a retry."""
    server = Server(web_server, peer)
    server.bad, server.hangs = {MANY // 2}, Reply(status)
    with peer.app(web_server) as c:
        outcomes = c.send_many([event(n) for n in range(MANY)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.status != "ok"] == [MANY // 2]


@every_peer
@pytest.mark.parametrize("status", [502, 504])
def test_a_gateway_without_an_answer_is_no_loss_of_the_connection(
    web_server: WebServer, peer: Peer, status: int
):
    """Something answered; the message has failed by itself."""
    server = Server(web_server, peer)
    server.bad, server.hangs = {0}, Reply(status)
    with peer.app(web_server, batch_timeout_s=0.0) as c:
        outcomes = c.send_many([event(0)])
        assert c.send_many([event(1)])[0].status == "ok"
        assert c.status().lost_connections == 0
    assert (outcomes[0].status, outcomes[0].attempts) == ("fatal", 1)


@peers_by_size
def test_a_request_that_hangs_is_no_loss_of_those_that_follow_it(web_server: WebServer, peer: Peer):
    """A batch over ``max_body_bytes`` is several requests, one after the other: each fails by itself."""
    server = Server(web_server, peer)
    server.bad = {0}
    peer = peer._replace(connection={**peer.connection, "max_body_bytes": 1_000})
    with peer.app(web_server, timeout_s=2.0) as c:
        many = c.app.publish_many("to", [event(n) for n in range(MANY)])
        wait_until(lambda: len(server.sent) == 1)
        assert c.app.publish("to", event(MANY)).outcomes(timeout_s=TIMEOUT_S)[0].status == "ok"
        outcomes = many.outcomes(timeout_s=TIMEOUT_S)
        assert c.status().lost_connections == 0
    assert [n for n, outcome in enumerate(outcomes) if outcome.status != "ok"] == [0]


@peers_of_many
def test_one_that_breaks_its_connection_fails_alone(web_server: WebServer, peer: Peer):
    """If the server answers when it is asked, each that shared the request is sent alone, at the same time."""
    server = Server(web_server, peer)
    server.bad, server.hangs = {MANY // 2}, Reply(cut=True)
    with peer.app(web_server) as c:
        outcomes = c.send_many([event(n) for n in range(MANY)])
    assert [n for n, outcome in enumerate(outcomes) if outcome.status != "ok"] == [MANY // 2]
    copies = Counter(n for found in server.sent for n in found)
    del copies[MANY // 2]
    assert max(copies.values()) == 2


@peers_of_many
def test_a_batch_is_repeated_whole_after_a_loss_of_the_server(web_server: WebServer, peer: Peer):
    """So a server that remembers the key of a batch, or the name of an object, applies it once."""
    server = Server(web_server, peer)
    server.bad, server.hangs = set(range(MANY)), Reply(cut=True)
    login = web_server.on_ping

    def answer(seen: Seen) -> Reply:
        return Reply(cut=True) if server.sent and server.bad and not numbers(seen) else server.answer(seen)

    def on_ping(seen: Seen) -> Reply:
        return Reply(cut=True) if server.sent and server.bad else login(seen)

    web_server.answer, web_server.on_ping = answer, on_ping
    with peer.app(web_server) as c:
        receipt = c.app.publish_many("to", [event(n) for n in range(MANY)])
        wait_until(lambda: server.sent and c.status().lost_connections)
        server.bad = set()
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)} == {"ok"}
    assert [sorted(found) for found in server.sent] == [list(range(MANY))] * 2


@peers_of_many
def test_a_request_that_hangs_may_not_be_repeated(web_server: WebServer, peer: Peer):
    """With ``on_unknown = "report"`` all that shared it are unknown."""
    server = Server(web_server, peer)
    server.bad = {3}
    with peer.app(web_server, timeout_s=0.5, on_unknown="report") as c:
        outcomes = c.send_many([event(n) for n in range(10)])
    assert {(outcome.status, outcome.attempts) for outcome in outcomes} == {("unknown", 1)}
    assert len(server.sent) == 1


@every_peer
@pytest.mark.parametrize("status", [429, 503])
def test_new_messages_wait_while_the_server_is_unavailable(web_server: WebServer, peer: Peer, status: int):
    """They are not tried: one message at a time probes, and its success releases the others."""
    server = Server(web_server, peer)
    server.refusal = Reply(status, headers={"Retry-After": "1"})
    with peer.app(web_server, batch_timeout_s=0.0) as c:
        first = c.app.publish("to", event(0))
        wait_until(lambda: len(server.sent) > 0 and c.status().queued == 1)
        server.refusal = None
        rest = c.app.publish_many("to", [event(n) for n in range(1, MANY)])
        outcomes = [*first.outcomes(timeout_s=TIMEOUT_S), *rest.outcomes(timeout_s=TIMEOUT_S)]
    assert {outcome.status for outcome in outcomes} == {"ok"}
    assert len(server.sent[1]) == 1
    assert server.sent[1] == [0] or not peer.scoped


@every_peer
def test_an_unavailable_server_uses_up_nothing(web_server: WebServer, peer: Peer):
    """Nothing is lost without a retry left, and each probe is one message."""
    server = Server(web_server, peer)
    server.refusal = Reply(503)
    with peer.app(web_server, batch_timeout_s=0.0) as c:
        first = c.app.publish("to", event(0))
        wait_until(lambda: len(server.sent) > 0 and c.status().queued == 1)
        tried = len(server.sent)
        rest = c.app.publish_many("to", [event(n) for n in range(1, 30)])
        wait_until(lambda: len(server.sent) >= tried + 4)
        assert {len(found) for found in server.sent} == {1}
        server.refusal = None
        outcomes = [*first.outcomes(timeout_s=TIMEOUT_S), *rest.outcomes(timeout_s=TIMEOUT_S)]
    assert {outcome.status for outcome in outcomes} == {"ok"}


@every_peer
def test_refused_credentials_lose_nothing(web_server: WebServer, peer: Peer):
    """401 takes the channel down, and all is delivered once they are accepted."""
    server = Server(web_server, peer)
    server.refusal = Reply(401, json.dumps({"error": "stream not found"}).encode())
    with peer.app(web_server, slow_restart_s=0.2) as c:
        receipt = c.app.publish_many("to", [event(n) for n in range(20)])
        wait_until(lambda: c.status().state == "down")
        assert not receipt.done()
        server.refusal = None
        assert {outcome.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)} == {"ok"}
