"""What goes to the fallback of a channel: which ends, in what order, within which bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from small_apps import TIMEOUT_S, Seen, one, probe, running, service, until

from rambla_py import (
    STOP,
    ConfigError,
    ConnectionLostError,
    Handler,
    PermanentError,
    Rambla,
    UnknownOutcomeError,
)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Return what a handler waits for; opened at the end of the test, whatever it did."""
    event = threading.Event()
    yield event
    event.set()


def refusing(self: Handler) -> None:
    """Connect to nothing."""
    raise ConnectionLostError("refused")


def failing(error: BaseException) -> type[Handler]:
    """Return a handler that raises this error each time."""

    def handle(message: Any) -> None:
        raise error

    return probe(handle)


def apart(primary: type[Handler], kept: Seen, **orders: Any) -> dict[str, Any]:
    """Return a primary channel with a fallback that keeps everything."""
    keep = probe(lambda message: kept.append(message.payload))
    return {
        "bad": service(primary, orders={"fallback": "kept", **orders}),
        "good": service(keep, kept={}),
    }


def test_a_fatal_delivery_goes_there() -> None:
    """The default since 0.1."""
    kept = Seen()
    with running(apart(failing(PermanentError("no")), kept)) as app:
        outcome = one(app)
    assert (outcome.status, outcome.final.status, list(kept)) == ("fatal", "ok", ["x"])


def test_an_expired_delivery_goes_there() -> None:
    """A primary that is away reaches its fallback, whose clock starts then."""
    kept = Seen()
    away = probe(lambda message: None, connect=refusing)
    with running(apart(away, kept, options={"expires_s": 0.2})) as app:
        outcomes = app.publish_many("orders", range(20)).outcomes(timeout_s=TIMEOUT_S)
    assert {(outcome.status, outcome.final.status) for outcome in outcomes} == {("expired", "ok")}
    assert sorted(kept) == list(range(20))


def test_a_delivery_without_room_goes_there(gate: threading.Event) -> None:
    """What overflows the primary is kept."""
    kept = Seen()
    held = probe(lambda message: gate.wait(TIMEOUT_S))
    config = apart(held, kept, max_pending=3, overflow="drop_newest")
    with running(config, gate) as app:
        app.publish("orders", "first")
        assert until(lambda: app.status()["bad.orders"].in_flight == 1)
        receipt = app.publish_many("orders", range(10))
        assert kept.wait(7) == list(range(3, 10))
        gate.set()
        finals = [outcome.final.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)]
    assert finals == ["ok"] * 10


@pytest.mark.parametrize("way", ["stop", "exit"])
def test_what_a_stop_leaves_goes_there(way: str) -> None:
    """At three quarters of the time what is not in flight is handed over, and delivered by the end."""
    kept = Seen()
    away = probe(lambda message: None, connect=refusing)
    with running(apart(away, kept), stop_s=1.0) as app:
        receipt = app.publish_many("orders", range(50))
        later = app.publish("orders", "later", delay_s=100)
        began = time.monotonic()
        app.stop(timeout_s=1.0)
        took = time.monotonic() - began
    assert 0.7 < took < 2.0
    assert {outcome.final.status for outcome in receipt.outcomes()} == {"ok"}
    assert later.outcomes()[0].final.status == "ok"
    assert len(kept) == 51


def test_what_is_in_flight_at_the_stop_has_until_the_end() -> None:
    """It is not handed over: it may be delivered."""
    kept, begun = Seen(), Seen()

    def handle(message: Any) -> None:
        begun.append(message.payload)
        if message.payload == "slow":
            kept.wait()

    with running(apart(probe(handle), kept)) as app:
        slow = app.publish("orders", "slow")
        begun.wait()
        waits = app.publish("orders", "waits")
        app.stop(timeout_s=2.0)
    assert slow.outcomes()[0].status == "ok"
    assert waits.outcomes()[0].final.channel == "kept"
    assert list(kept) == ["waits"]


@pytest.mark.parametrize("listed", [True, False])
def test_unknown_goes_there_only_when_listed(listed: bool) -> None:
    """An attempt that may have been delivered is not repeated elsewhere by default."""
    kept = Seen()
    extra = {"fallback_on": ["fatal", "unknown"]} if listed else {}
    handler = failing(UnknownOutcomeError("gone"))
    with running(apart(handler, kept, on_unknown="report", **extra)) as app:
        outcome = one(app)
    assert outcome.status == "unknown"
    assert (outcome.fallback is not None) is listed
    assert len(kept) == listed


def test_only_the_listed_ends_go_there() -> None:
    """A callback's STOP never does; nor does what a disabled channel drops."""
    kept = Seen()
    stop = {"callbacks": {"on_failure": lambda outcome: STOP}}
    config = apart(failing(ValueError("no")), kept, options=stop)
    config["bad"]["channels"]["off"] = {"fallback": "kept", "enabled": False}
    config["bad"]["channels"]["only"] = {
        "fallback": "kept",
        "fallback_on": ["expired"],
        "options": {"retries": 0},
    }
    with running(config) as app:
        assert one(app).status == "failed"
        assert one(app, channel="off").status == "dropped"
        assert one(app, channel="only").status == "fatal"
    assert list(kept) == []


def test_a_hand_over_waits_for_room_and_keeps_its_place(gate: threading.Event) -> None:
    """A full fallback holds deliveries back in the primary, whose publishers feel it; none is lost."""
    slow = probe(lambda message: gate.wait(TIMEOUT_S))
    config = {
        "bad": service(
            failing(PermanentError("no")), orders={"fallback": "kept", "max_pending": 4, "overflow": "raise"}
        ),
        "slow": service(slow, kept={"max_pending": 2, "overflow": "drop_oldest"}),
    }
    with running(config, gate) as app:
        primary = app._targets()[0]
        receipts = [app.publish("orders", "in flight")]
        assert until(lambda: app.status()["slow.kept"].in_flight == 1)
        for number in range(5):
            receipts.append(app.publish("orders", number))
            assert until(lambda: primary.mailbox.empty and not primary.in_flight())
        assert app.status()["slow.kept"].queued == 2
        assert primary.mailbox.ready_limit == 1, "three of its four places are lent"
        assert app.audit()["slow.kept"].dropped == 0
        gate.set()
        finals = [receipt.outcomes(timeout_s=TIMEOUT_S)[0].final.status for receipt in receipts]
        assert primary.mailbox.ready_limit == 4
    assert finals == ["ok"] * 6


def test_a_drop_for_want_of_room_does_not_wait_for_the_fallback(gate: threading.Event) -> None:
    """It holds no place in which it could wait: it ends at once."""
    held = probe(lambda message: gate.wait(TIMEOUT_S))
    config = {
        "bad": service(held, orders={"fallback": "kept", "max_pending": 1, "overflow": "drop_newest"}),
        "slow": service(held, kept={"max_pending": 1}),
    }
    with running(config, gate) as app:
        for channel in ("orders", "kept"):
            app.publish(channel, "in flight")
        assert until(lambda: all(status.in_flight == 1 for status in app.status().values()))
        for channel in ("orders", "kept"):
            app.publish(channel, "waits")
        outcome = app.publish("orders", "too many").outcomes(timeout_s=2.0)[0]
        assert (outcome.status, outcome.fallback) == ("dropped", None)
        gate.set()


def test_several_fallbacks_are_tried_in_their_order() -> None:
    """The outcomes form a chain in that order; the first that succeeds ends it."""
    seen = Seen()

    def handle(message: Any) -> str:
        seen.append(message.channel)
        if message.channel != message.payload:
            raise PermanentError("not here")
        return message.channel

    handler = probe(handle)
    config = {"probe": service(handler, orders={"fallback": ["a", "b", "c"]}, a={}, b={}, c={})}
    with running(config) as app:
        assert app.publish("orders", "b").result(timeout_s=TIMEOUT_S) == "b"
        assert list(seen) == ["orders", "a", "b"]
        outcome = one(app, "nowhere")
    chain = []
    link: Any = outcome
    while link is not None:
        chain.append((link.channel, link.status))
        link = link.fallback
    assert chain == [("orders", "fatal"), ("a", "fatal"), ("b", "fatal"), ("c", "fatal")]


def test_a_fallback_of_a_list_may_have_none_of_its_own() -> None:
    """The list says what follows; a circle and an unknown name are refused too."""
    handler = probe(lambda message: None)
    for channels in (
        {"orders": {"fallback": ["a", "b"]}, "a": {"fallback": "b"}, "b": {}},
        {"orders": {"fallback": ["a", "orders"]}, "a": {}},
        {"orders": {"fallback": ["a", "z"]}, "a": {}},
        {"orders": {"fallback": "a", "fallback_on": ["failed"]}, "a": {}},
    ):
        with pytest.raises(ConfigError, match="fallback"):
            Rambla({"probe": service(handler, **channels)})


def test_a_stop_ends_what_waits_for_a_full_fallback(gate: threading.Event) -> None:
    """Thousands that wait for room end as dropped at the fallback, each once."""
    held = probe(lambda message: gate.wait(TIMEOUT_S))
    config = {
        "bad": service(failing(PermanentError("no")), orders={"fallback": "kept"}),
        "slow": service(held, kept={"max_pending": 1}),
    }
    with running(config, gate, stop_s=0.2) as app:
        receipt = app.publish_many("orders", range(3_000))
        assert until(lambda: app.audit()["bad.orders"].fatal == 3_000)
        app.stop(timeout_s=0.2)
        finals = [outcome.final.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)]
    assert finals.count("dropped") >= 2_998
