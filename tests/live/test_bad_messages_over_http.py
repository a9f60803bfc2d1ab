"""2 % of messages are bad, over HTTP: what the others go through. Run with ``-rP`` to see the figures."""

from __future__ import annotations

from collections import Counter

import pytest
from web_peers import PEERS, Peer, event, numbers
from web_server import Reply, Seen, WebServer

NUMBER = 1_000
BAD = frozenset(range(25, NUMBER, 50))


AT_A_TIME = 32
"""How many messages that are alone in their request each handler has in flight by default."""


class Ledger:
    """What a server that answers no request with a bad message has seen of the others.

    ``waits`` has, for each message, how many time-outs it waited for, one after the other, until the request
    that was answered: those of requests that it was in itself, and those that ended while so many requests
    hung that no other could be sent.
    """

    def __init__(self, server: WebServer, peer: Peer, harm: Reply) -> None:
        self.copies: Counter[int] = Counter()
        self.waits: Counter[int] = Counter()
        self.answered: set[int] = set()
        self._peer, self._harm = peer, harm
        self._hanging: dict[int, int] = {}
        self._blocked = 0
        server.answer, server.on_gone = self._answer, self._gone

    def _answer(self, seen: Seen) -> Reply:
        found = numbers(seen)
        self.copies.update(found)
        began = max([self._blocked, *(self.waits[n] for n in found)])
        if BAD & set(found):
            if self._harm.silent:
                self._hanging[id(seen)] = began
            return self._harm
        self.answered.update(found)
        for n in found:
            self.waits[n] = began
        return self._peer.ok

    def _gone(self, seen: Seen) -> None:
        hung = len(self._hanging)
        over = self._hanging.pop(id(seen)) + 1
        for n in numbers(seen):
            self.waits[n] = max(self.waits[n], over)
        if hung >= AT_A_TIME:
            self._blocked = max(self._blocked, over)


@pytest.mark.parametrize(
    ("harm", "reply"), [("hangs", Reply(silent=True)), ("cut", Reply(cut=True)), ("504", Reply(504))]
)
@pytest.mark.parametrize("name", PEERS)
def test_the_others_keep_their_outcome_with_one_extra_copy(
    web_server: WebServer, name: str, harm: str, reply: Reply
) -> None:
    """Each comes twice at most, and waits for one time-out at most; only the bad ones fail."""
    peer = PEERS[name]
    ledger = Ledger(web_server, peer, reply)
    gathers = {"batch_ready": 500, "batch_timeout_s": 0.3}
    with peer.app(web_server, timeout_s=1.0, retries=1, **gathers) as c:
        receipt = c.app.publish_many("to", [event(n) for n in range(NUMBER)])
        outcomes = receipt.outcomes(timeout_s=120)
    good = set(range(NUMBER)) - BAD
    copies, waits = max(ledger.copies[n] for n in good), max(ledger.waits[n] for n in good)
    print(f"{name}, {harm}: at most {copies} copies, {waits} time-outs")
    assert {n for n, outcome in enumerate(outcomes) if outcome.status != "ok"} == BAD
    assert ledger.answered == good
    assert copies <= 2
    assert waits <= 1
