"""How long messages are kept, and what an attempt without an answer means for their end."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, service, table, until

from rambla_py import ConnectionLostError, OptionError, Rambla, UnknownOutcomeError
from rambla_py.handlers.memory import MemoryHandler

KINDS = {
    "lost connection": UnknownOutcomeError("gone"),
    "attempt alone": UnknownOutcomeError("late", connection_lost=False),
}


def config_of(channel: dict[str, Any]) -> Any:
    """Return the policy of a channel, beside one that may be its fallback."""
    spare = service(MemoryHandler, spare={})
    return Rambla({"probe": service(probe(print), orders=channel), "memory": spare}).config


def test_messages_are_kept_for_ever_unless_expires_s_is_set() -> None:
    """There is no default of ``expires_s``."""
    channel = config_of({}).services["probe"].channels["orders"]
    assert channel.policy.expires_s is None


def test_a_channel_with_a_fallback_gives_up_after_300_s() -> None:
    """Unless it sets ``expires_s``, or says that messages never expire."""
    channels = [{}, {"options": {"expires_s": 7}}, {"options": {"expires_s": float("inf")}}]
    found = [
        config_of({"fallback": "spare", **channel}).services["probe"].channels["orders"].policy.expires_s
        for channel in channels
    ]
    assert found == [300.0, 7.0, None]


def test_the_default_of_a_fallback_counts_from_the_due_time() -> None:
    """A longer delay is no contradiction to it; an ``expires_s`` that is set counts from the call."""
    gate = threading.Event()
    slow = probe(lambda message: gate.wait(TIMEOUT_S))
    config = {
        "probe": service(slow, orders={"fallback": "spare"}),
        "memory": service(MemoryHandler, spare={}),
    }
    with running(config, gate, stop_s=0.0) as app:
        receipt = app.publish("orders", 1, delay_s=400.0)
        with pytest.raises(OptionError, match=r"delay_s.* must be less than expires_s \(300\); got 400"):
            app.publish("orders", 1, delay_s=400.0, expires_s=300.0)
    assert receipt.outcomes()[0].status == "dropped"


@pytest.mark.parametrize("kind", KINDS)
def test_expiry_after_an_attempt_without_an_answer_is_unknown(kind: str) -> None:
    """It may have been delivered: the outcome says so, and counts the attempt."""

    def handle(message: Any) -> None:
        raise KINDS[kind]

    options = {"expires_s": 0.3, "retries": 1_000, "backoff": {"initial_s": 0.1, "max_s": 0.1}}
    with running(table(probe(handle), options)) as app:
        outcome = one(app)
    assert outcome.status == "unknown"
    assert outcome.attempts >= 1
    assert "may have arrived" in str(outcome.error)
    assert "expires_s = 0.3" in str(outcome.error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_after_an_attempt_without_an_answer_is_unknown(kind: str) -> None:
    """What waits for its retry at the stop ends as unknown, not as dropped."""
    tried = Seen()

    def handle(message: Any) -> None:
        tried.append(message.payload)
        raise KINDS[kind]

    def connect(self: Any) -> None:
        if tried:
            raise ConnectionLostError("away")

    options = {"backoff": {"initial_s": 60.0, "max_s": 60.0}}
    with running(table(probe(handle, connect=connect), options), stop_s=0.1) as app:
        receipt = app.publish("orders", 1)
        tried.wait()
        assert until(lambda: app.status()["probe.orders"].in_flight == 0)
    outcome = receipt.outcomes()[0]
    assert (outcome.status, outcome.attempts) == ("unknown", 1)


def test_an_attempt_without_an_answer_is_fatal_once_retries_are_used_up() -> None:
    """The error says that the message may have arrived."""

    def handle(message: Any) -> None:
        raise KINDS["attempt alone"]

    with running(table(probe(handle), {"retries": 2})) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("fatal", 3)
    assert "may have arrived" in str(outcome.error)


def test_an_attempt_without_an_answer_is_reported_where_that_is_asked() -> None:
    """``on_unknown = "report"``: one attempt, at most once."""

    def handle(message: Any) -> None:
        raise KINDS["attempt alone"]

    with running(table(probe(handle), on_unknown="report")) as app:
        outcome = one(app)
    assert (outcome.status, outcome.attempts) == ("unknown", 1)


def test_an_attempt_without_an_answer_leaves_the_connection() -> None:
    """With ``connection_lost=False`` the connection stays, and with it what else is in flight."""
    connects = Seen()

    def handle(message: Any) -> None:
        if message.attempts == 1:
            raise KINDS["attempt alone"]

    def connect(self: Any) -> None:
        connects.append(time.monotonic())

    with running(table(probe(handle, connect=connect))) as app:
        assert one(app).status == "ok"
    assert len(connects) == 1
