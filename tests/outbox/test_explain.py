"""What a channel promises: computed from its handler, its options and where its journal is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import rambla_py as rambla
from rambla_py.config import load_config
from rambla_py.outbox.explain import PROMISES, Explanation, Place, explain

FILE = Place("outbox.db")
DATABASE = Place("postgresql://db/shop", shared=True)


class Silent(rambla.Handler):
    """States no guarantee, and asks for one more round."""

    def handle_publish(self, message: Any, options: Any, state: Any) -> None:
        """Do nothing."""

    def on_fatal(self, outcome: Any) -> Any:
        return rambla.RETRY


def explained(
    service: str,
    connection: dict[str, Any],
    options: dict[str, Any],
    *,
    durable: bool = True,
    place: Place = FILE,
    others: dict[str, Any] | None = None,
    **channel: Any,
) -> Explanation:
    table: dict[str, Any] = {
        "connections": {"one": connection},
        "channels": {"orders": {"connection": "one", "options": options, **channel}, **(others or {})},
    }
    if service == "silent":
        table["handler"] = Silent
    config = load_config({service: table})
    orders = config.services[service].channels["orders"]
    return explain(config, msgspec.structs.replace(orders, durable=durable), place)


AMQP: tuple[str, dict[str, Any]] = ("amqp", {"url": "amqp://localhost"})
ALL = set(PROMISES)


@pytest.mark.parametrize(
    ("service", "connection", "options", "kept"),
    [
        (*AMQP, {}, ALL - {"at-most-once"}),
        (*AMQP, {"confirm": False}, {"ordered", "survives-restart"}),
        ("mqtt", {"url": "mqtt://localhost"}, {}, ALL - {"at-most-once"}),
        ("mqtt", {"url": "mqtt://localhost"}, {"qos": 0}, {"ordered", "survives-restart"}),
        ("nats", {"url": "nats://localhost"}, {}, ALL - {"at-most-once"}),
        ("nats", {"url": "nats://localhost"}, {"jetstream": False}, {"survives-restart"}),
        ("redis", {"url": "redis://localhost"}, {"command": "rpush", "list": "l"}, ALL - {"at-most-once"}),
        ("redis", {"url": "redis://localhost"}, {"command": "publish", "topic": "t"}, {"survives-restart"}),
        ("kombu", {"url": "amqp://localhost"}, {}, ALL - {"at-most-once"}),
        ("kombu", {"url": "memory://"}, {}, {"ordered", "survives-restart"}),
        ("http", {"url": "http://localhost"}, {}, ALL - {"at-most-once"}),
        ("null", {}, {}, {"ordered", "survives-restart"}),
        ("stub", {}, {}, {"survives-restart"}),
        ("silent", {}, {}, {"survives-restart"}),
    ],
)
def test_what_a_durable_channel_keeps(
    service: str, connection: dict[str, Any], options: dict[str, Any], kept: set[str]
) -> None:
    """The handler decides with its options; without an answer the outbox can promise neither."""
    found = explained(service, connection, options)
    assert {name for name in PROMISES if found.keeps(name)} == kept
    assert found.guarantee


@pytest.mark.parametrize(
    ("promise", "channel", "reason"),
    [
        ("survives-restart", {"durable": False}, "durable = false: messages wait in memory"),
        ("at-least-once", {"durable": False}, "durable = false: messages wait in memory"),
        ("at-least-once", {"on_unknown": "report"}, 'on_unknown = "report": an attempt without an answer'),
        ("at-least-once", {"options": {"expires_s": 60}}, "expires_s = 60: what is not delivered by then"),
        ("at-least-once", {"options": {"confirm": False}}, "AmqpHandler promises at most once"),
        (
            "at-least-once",
            {"fallback": "spare"},
            "fallback amqp.spare is not durable",
        ),
        ("at-most-once", {}, 'on_unknown = "retry": an attempt without an answer is repeated'),
        (
            "at-most-once",
            {"options": {"confirm": False}},
            "what was sent when the process died is sent again",
        ),
        *(
            (promise, {"enabled": False}, "the channel is disabled")
            for promise in sorted(ALL - {"at-most-once"})
        ),
    ],
)
def test_why_a_promise_is_not_kept(promise: Any, channel: dict[str, Any], reason: str) -> None:
    """Each reason names the setting."""
    settings = {"options": {}, **channel}
    found = explained(*AMQP, others={"spare": {"connection": "one"}}, **settings)
    assert reason in found.broken[promise]


def test_at_most_once() -> None:
    """Kept where nothing is sent a second time: reported outcomes, or a channel in memory without answers."""
    assert explained(*AMQP, {}, on_unknown="report").keeps("at-most-once")
    assert explained(*AMQP, {"confirm": False}, durable=False).keeps("at-most-once")
    assert explained(*AMQP, {}, enabled=False).keeps("at-most-once")


def test_the_sentences() -> None:
    """Three sentences, with the limits in them."""
    found = explained(*AMQP, {"retries": 2, "backoff": {"initial_s": 1, "multiplier": 10, "max_s": 5}})
    assert found.delivery == (
        "At least once: a message is attempted until the backend confirms it, or it becomes a dead letter; "
        "a message is in the outbox outbox.db before publish returns; it may arrive twice, with the same id, "
        "if an attempt gets no answer (lost, or over 30 s) or the process dies before it has removed what was sent."
    )
    assert found.order == (
        "Messages with the same key are sent one at a time, in the order of publish, among those of one "
        "process; the next one is sent when one has ended, also as fatal or expired; messages without a key "
        "have no promised order."
    )
    # Three attempts of 30 s, and waits of 1 and 5 s.
    assert found.wait == (
        "publish waits up to 5 s for room and up to 10 s for the commit; a message that keeps failing ends "
        "after 3 attempts, at most 96 s; while the backend cannot be reached or takes nothing, a message "
        "waits without limit."
    )


def test_what_changes_the_sentences() -> None:
    """A shared journal, a fallback, an expiry, a mailbox that does not block, further rounds."""
    shared = explained(*AMQP, {}, place=DATABASE)
    assert "whichever process delivers them" in shared.order
    assert "or another process takes over from one that is paused" in shared.delivery
    other = explained(
        *AMQP,
        {"expires_s": 7200},
        durable=False,
        overflow="raise",
        fallback="spare",
        others={"spare": {"connection": "one"}},
    )
    assert other.delivery.startswith("At least once while the process lives: ")
    assert "what is not delivered within 2 h ends as expired" in other.delivery
    assert "what ends as fatal or expired or dropped goes to spare" in other.delivery
    assert other.wait.startswith("publish does not wait; ")
    assert other.wait.endswith("waits until it expires, 2 h after publish.")
    assert explained(*AMQP, {"confirm": False}).delivery.startswith("Neither at least nor at most once: ")
    assert explained(*AMQP, {}, on_unknown="report").delivery.startswith("At most once: ")
    assert explained(*AMQP, {}, enabled=False).delivery.startswith("Nothing is delivered: ")
    assert "after 12 attempts" in explained("silent", {}, {}).wait
    assert explained("silent", {}, {}).delivery.startswith("No promise: ")
