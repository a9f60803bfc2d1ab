"""The fast path of one message to several targets has the same results as the slow path."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from small_apps import TIMEOUT_S, probe, running, until

from rambla_py import MailboxFullError, Message, OptionError, Rambla
from rambla_py.receipt import Receipt


def seen(message: Any) -> dict[str, Any]:
    """What a handler sees of a message, as its result."""
    return {
        "payload": message.payload,
        "id": message.id,
        "key": message.key,
        "headers": message.headers,
        "retries": message.policy.retries,
        "service": message.service,
    }


OBJECTS = probe(seen)
BYTES = probe(lambda message: {**seen(message), "body": message.body()}, takes="bytes")


def both(first: Mapping[str, Any] | None = None, second: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A channel with two targets, the second of which takes bytes."""
    return {
        "one": {"handler": OBJECTS, "channels": {"orders": {**(first or {})}}},
        "two": {"handler": BYTES, "channels": {"orders": {**(second or {})}}},
    }


def results(receipt: Receipt) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = receipt.result(timeout_s=TIMEOUT_S)
    return found


PUBLISHES = [
    pytest.param(lambda app, payload: app.publish("orders", payload), id="plain"),
    pytest.param(lambda app, payload: app.publish("orders", payload, retries=1), id="an option"),
    pytest.param(lambda app, payload: app.channel("orders", retries=1).publish(payload), id="bound"),
    pytest.param(lambda app, payload: app.channel("orders", priority="high").publish(payload), id="apart"),
    pytest.param(lambda app, payload: app.publish("orders", payload, key="k"), id="key"),
    pytest.param(lambda app, payload: app.publish("orders", Message(payload)), id="Message"),
    pytest.param(lambda app, payload: app.publish(["orders"], payload), id="slow path"),
]


@pytest.mark.parametrize("publish", PUBLISHES)
def test_all_targets_get_one_captured_message_with_one_id(
    publish: Callable[[Rambla, Any], Receipt],
) -> None:
    """In the order of the configuration; what changes after the call has no effect."""
    payload = {"id": 42, "lines": [1]}
    with running(both(first={"options": {"headers": {"a": "1"}}})) as app:
        receipt = publish(app, payload)
        payload["lines"].append(2)  # type: ignore[attr-defined]
        first, second = results(receipt)
        outcomes = receipt.outcomes(timeout_s=TIMEOUT_S)
    assert [first["service"], second["service"]] == ["one", "two"]
    assert first["payload"] == {"id": 42, "lines": [1]}
    assert second["body"] == b'{"id":42,"lines":[1]}'
    assert first["id"] == second["id"] == outcomes[0].message_id == outcomes[1].message_id
    assert (first["headers"], second["headers"]) == ({"a": "1"}, {})


def test_an_option_reaches_the_targets_that_declare_it_and_one_unknown_to_all_is_an_error() -> None:
    """Also when the same options were given before."""
    with running(both()) as app:
        for _ in range(2):
            assert [one["retries"] for one in results(app.publish("orders", 1, retries=3))] == [3, 3]
            with pytest.raises(OptionError, match="retrys"):
                app.publish("orders", 1, retrys=3)
        assert {audit.accepted for audit in app.audit().values()} == {2}


def test_callables_and_envelopes_are_what_they_are_for_each_target() -> None:
    """A dict is an envelope only where the channel lists its keys; a callable is called by each."""
    with running(both(first={"envelope": ["key"]})) as app:
        first, second = results(app.publish("orders", {"message": "x", "key": "k"}))
        called = app.publish("orders", lambda source, destination, options: source.__name__)
        assert len(called.result(timeout_s=TIMEOUT_S)) == 2
    assert (first["payload"], first["key"]) == ("x", "k")
    assert (second["payload"], second["key"]) == ({"message": "x", "key": "k"}, None)


def test_a_full_target_keeps_a_message_from_none_of_the_others() -> None:
    """What finds no room ends as dropped there, and is delivered elsewhere; with no room at all it raises."""
    gate = threading.Event()
    config = both(second={"max_pending": 1, "overflow": "raise"})
    config["two"]["handler"] = probe(lambda message: gate.wait(TIMEOUT_S))
    with running(config, gate) as app:
        target = next(target for target in app._targets() if target.service == "two")
        app.publish("two.orders", 0)
        assert until(lambda: target.in_flight() == 1)
        app.publish("two.orders", 1)
        receipt = app.publish("orders", 2)
        with pytest.raises(MailboxFullError):
            app.publish("two.orders", 3)
        gate.set()
        assert [outcome.status for outcome in receipt.outcomes(timeout_s=TIMEOUT_S)] == ["ok", "dropped"]


def test_a_publish_hook_attached_later_sees_every_message() -> None:
    """The fast path is off once something is attached to one of the targets."""
    seen: list[Mapping[str, Any]] = []

    def hook(options: Mapping[str, Any]) -> Mapping[str, Any]:
        seen.append(options)
        return options

    with running(both()) as app:
        results(app.publish("orders", 1, id="first"))
        app._targets()[0].admission.use(hook)
        results(app.publish("orders", 2, id="second"))
    assert [dict(options) for options in seen] == [{"id": "second"}]
