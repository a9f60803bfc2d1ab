"""Fallback channels."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, flaky, one, probe, running, service, until

from rambla_py import (
    ConfigError,
    PermanentError,
    PublishError,
    Rambla,
)


def test_a_fatal_delivery_goes_to_the_fallback_and_succeeds_there() -> None:
    """The primary counts fatal, the fallback counts its own; the outcome holds both, and result() succeeds."""
    seen = Seen()

    def keep(message: Any) -> str:
        seen.append((message.payload, message.id, message.key, dict(message.headers)))
        return "kept"

    config = {
        "bad": service(probe(flaky(99)), orders={"options": {"retries": 1}, "fallback": "kept"}),
        "good": service(probe(keep), kept={}),
    }
    with running(config) as app:
        receipt = app.publish("orders", {"n": 1}, id="m-1", key="k", headers={"a": 1})
        assert receipt.result(timeout_s=TIMEOUT_S) == "kept"
        outcome = receipt.outcomes()[0]
        audit = app.audit()
    assert (outcome.status, outcome.attempts, outcome.channel) == ("fatal", 2, "orders")
    assert outcome.fallback is not None
    assert (outcome.fallback.status, outcome.fallback.channel, outcome.fallback.message_id) == (
        "ok",
        "kept",
        "m-1",
    )
    assert outcome.succeeded
    assert seen == [({"n": 1}, "m-1", "k", {"a": 1})]
    assert (audit["bad.orders"].fatal, audit["good.kept"].ok) == (1, 1)
    assert receipt.level == "confirmed"


def test_a_chain_of_fallbacks_ends_with_the_first_that_succeeds_or_with_an_error() -> None:
    """Each link is tried in turn; where the last fails, so does the receipt, and the outcomes form a chain."""
    bad = {"options": {"retries": 0}}
    config = {
        "probe": service(
            probe(lambda message: message.payload if message.target.channel == message.payload else 1 / 0),
            a={**bad, "fallback": "b"},
            b={**bad, "fallback": "c"},
            c=bad,
        )
    }
    with running(config) as app:
        assert app.publish("a", "c").result(timeout_s=TIMEOUT_S) == "c"
        receipt = app.publish("a", "nowhere")
        with pytest.raises(PublishError):
            receipt.result(timeout_s=TIMEOUT_S)
        outcome = receipt.outcomes()[0]
        assert [audit.fatal for audit in app.audit().values()] == [2, 2, 1]
    assert outcome.final.channel == "c"
    assert outcome.fallback is not None
    assert outcome.fallback.channel == "b"
    assert outcome.final.status == "fatal"
    assert not outcome.succeeded


def test_a_fallback_that_fans_out_succeeds_when_all_of_it_does() -> None:
    """Where one of its targets fails, that one is the fallback's outcome."""

    def middling(message: Any) -> None:
        if message.payload == "bad":
            raise PermanentError("no")

    config = {
        "primary": service(probe(flaky(9, PermanentError("no"))), orders={"fallback": "kept"}),
        "good": service(probe(lambda message: None), kept={}),
        "middling": service(probe(middling), kept={}),
    }
    with running(config) as app:
        assert one(app, "good").succeeded
        outcome = one(app, "bad")
        assert not outcome.succeeded
        assert outcome.final.service == "middling"
        assert app.audit()["good.kept"].ok == 2


def test_a_fallback_takes_over_once_its_mailbox_has_room(gate: threading.Event) -> None:
    """The bound of the fallback's mailbox applies: until then the delivery waits."""
    config = {
        "primary": service(probe(flaky(9, PermanentError("no"))), orders={"fallback": "kept"}),
        "slow": service(
            probe(lambda message: gate.wait(TIMEOUT_S) and "kept"),
            kept={"max_pending": 1, "overflow": "raise"},
        ),
    }
    with running(config, gate) as app:
        app.publish("kept", "in flight")
        assert until(lambda: app.status()["slow.kept"].in_flight == 1)
        app.publish("kept", "waits")
        receipt = app.publish("orders", 1)
        assert until(lambda: app.audit()["primary.orders"].fatal == 1)
        assert not receipt.done()
        gate.set()
        assert receipt.result(timeout_s=TIMEOUT_S) == "kept"


def test_on_outcome_of_the_primary_holds_the_fallback() -> None:
    """It is called once, at the end of the chain; on_fatal is called before."""
    heard = Seen()
    callbacks = {"on_outcome": heard.append, "on_fatal": lambda outcome: heard.append("fatal")}
    config = {
        "bad": service(
            probe(flaky(9, PermanentError("no"))),
            orders={"options": {"callbacks": callbacks}, "fallback": "kept"},
        ),
        "good": service(probe(lambda message: "kept"), kept={}),
    }
    with running(config) as app:
        one(app)
        fatal, outcome = heard.wait(2)
    assert fatal == "fatal"
    assert outcome.fallback.result == "kept"


def test_a_cycle_of_fallbacks_is_refused_at_load() -> None:
    """So is a fallback that does not exist; a channel is no fallback of itself."""
    for channels in (
        {"a": {"fallback": "b"}, "b": {"fallback": "a"}},
        {"a": {"fallback": "a"}},
        {"a": {"fallback": "z"}},
    ):
        with pytest.raises(ConfigError, match="fallback"):
            Rambla({"probe": service(probe(lambda message: None), **channels)})
