"""What RabbitMQ refuses: one bad message must not affect the others."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pika
import pytest
from amqp_worker import WAIT_S, app_config, bodies, depth, to_queue, worker

from rambla_py import Message, Rambla
from rambla_py.errors import (
    AccessError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnroutableError,
)
from rambla_py.message import Ok
from rambla_py.testing.servers import RabbitMqServer


def test_a_message_that_no_queue_takes_fails(rabbitmq: RabbitMqServer, plain: Any, queue_name: str) -> None:
    """It is returned; those around it are confirmed."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        lost = [sender.make(n, routing_key=f"{queue_name}-nowhere") for n in range(20)]
        good = [sender.make(n) for n in range(20)]
        answers = sender.publish(*itertools.chain.from_iterable(zip(good, lost, strict=True)))
    assert answers[::2] == [Ok()] * 20
    assert {type(each) for each in answers[1::2]} == {UnroutableError}
    assert f"312 NO_ROUTE: exchange '', routing key '{queue_name}-nowhere'" in str(answers[1])
    assert depth(plain, queue_name) == 20


def test_without_mandatory_a_message_may_vanish(rabbitmq: RabbitMqServer, unique_name: str) -> None:
    """With ``mandatory = false`` the broker confirms messages that no queue takes."""
    with worker(rabbitmq, routing_key=unique_name, mandatory=False) as sender:
        assert sender.publish(b"gone") == [Ok()]


def test_a_full_queue_rejects(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """``basic.nack`` is a rejection that may be retried."""
    full = to_queue(queue_name, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    with worker(rabbitmq, **full) as sender:
        assert sender.publish(b"fits") == [Ok()]
        (answer,) = sender.publish(b"too many")
        assert (type(answer), answer.retryable) == (RejectedError, True)
        assert sender.lost is None


def test_a_missing_exchange_needs_an_operator(
    rabbitmq: RabbitMqServer, queue_name: str, unique_name: str
) -> None:
    """The broker closes the channel: messages for it wait, and what follows goes out on a new channel."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        bad = sender.make(b"bad", exchange=unique_name)
        after = sender.make(b"after")
        first, second = sender.publish(bad, after)
        assert (type(first), first.scope) == (UnavailableError, f"exchange '{unique_name}'")
        assert f"404 NOT_FOUND - no exchange '{unique_name}' in vhost '/'; create what is" in str(first)
        assert second == Ok()
        assert sender.publish(b"again") == [Ok()]
        assert sender.lost is None


def test_the_channels_own_exchange_concerns_all(rabbitmq: RabbitMqServer, unique_name: str) -> None:
    """It is missing: the channel is down until an operator has acted."""
    with worker(rabbitmq, exchange=unique_name) as sender:
        (answer,) = sender.publish(b"x")
    assert type(answer) is AccessError


def test_messages_for_a_missing_exchange_do_not_hold_up_the_others(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, unique_name: str
) -> None:
    """The others are delivered, with one extra copy at most; those wait until the exchange is there."""
    with Rambla(app_config(rabbitmq, queue_name)) as app:
        missing = [Message(f"bad-{n}", exchange=unique_name) for n in range(5)]
        good = [f"good-{n}" for n in range(45)]
        waiting = [app.publish("orders", message) for message in missing[:1]]
        receipts = [app.publish("orders", payload) for payload in good]
        waiting += [app.publish("orders", message) for message in missing[1:]]
        assert {receipt.outcomes(timeout_s=WAIT_S)[0].status for receipt in receipts} == {"ok"}
        assert not any(receipt.done() for receipt in waiting)
        assert app.status()["amqp.orders"].state != "down"
        plain.exchange_declare(unique_name, "fanout", durable=True)
        plain.queue_bind(queue_name, unique_name)
        assert {receipt.outcomes(timeout_s=WAIT_S)[0].status for receipt in waiting} == {"ok"}
    plain.exchange_delete(unique_name)
    found = Counter(body.decode() for body in bodies(plain, queue_name))
    assert set(found) == {*good, *(message.payload for message in missing)}
    assert max(found[payload] for payload in good) <= 2


def test_a_missing_permission_needs_an_operator(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, unique_name: str
) -> None:
    """Write access to one exchange is missing: the reply identifies those messages."""
    plain.queue_declare(queue_name, durable=True)
    plain.exchange_declare(unique_name, internal=True, auto_delete=True)
    with worker(rabbitmq, routing_key=queue_name) as sender:
        after, bad = sender.make(b"after"), sender.make(b"bad", exchange=unique_name)
        first, second = sender.publish(bad, after)
        assert (type(first), second) == (UnavailableError, Ok())
        assert "403 ACCESS_REFUSED" in str(first)
    plain.exchange_delete(unique_name)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"headers": {"CC": "copies"}}, "headers['CC']"),
        ({"headers": {"BCC": 5}}, "headers['BCC']"),
        ({"properties": {"headers": {"ratio": [float("nan")]}}}, "headers['ratio'][0]"),
        ({"properties": {"user_id": "somebody"}}, "'user_id'"),
    ],
)
def test_what_the_broker_is_known_to_refuse_is_not_sent(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, given: dict[str, Any], named: str
) -> None:
    """It is fatal, naming the property; the connection and the others do not notice."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        bad = sender.make(b"bad", **given)
        first, second, third = sender.publish(b"a", bad, b"b")
        assert (first, third, type(second)) == (Ok(), Ok(), PermanentError)
        assert named in str(second)
        assert sender.lost is None
    assert bodies(plain, queue_name) == [b"a", b"b"]


@pytest.mark.parametrize("value", ["60s", "", "-1", " 5", "1.5"])
def test_the_broker_refuses_the_expirations_that_the_options_refuse(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, value: str
) -> None:
    """RabbitMQ closes the channel for each of them."""
    plain.queue_declare(queue_name, durable=True)
    plain.confirm_delivery()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="expiration"):
        plain.basic_publish("", queue_name, b"x", pika.BasicProperties(expiration=value))


def test_a_refused_user_id_fails_alone(rabbitmq: RabbitMqServer, plain: Any, queue_name: str) -> None:
    """Unchecked, the broker closes the channel: the reply names the user, and what follows is written again."""
    with worker(rabbitmq, {"check_user_id": False}, **to_queue(queue_name)) as sender:
        bad = sender.make(b"bad", properties={"user_id": "somebody"})
        first, second = sender.publish(bad, b"after")
        assert (type(first), first.retryable, second) == (PermanentError, False, Ok())
        assert "406 PRECONDITION_FAILED - user_id property set to 'somebody'" in str(first)
        assert sender.lost is None
    assert bodies(plain, queue_name) == [b"after"]


def test_a_body_over_the_brokers_limit_closes_the_channel_for_itself_alone(
    strict_rabbitmq: RabbitMqServer, queue_name: str
) -> None:
    """It is sent with nothing else unconfirmed, is fatal, and the limit holds from then on."""
    with worker(strict_rabbitmq, **to_queue(queue_name)) as sender:
        first, large, last = sender.publish(b"a", b"x" * 200_000, b"b")
        assert (first, type(large)) == (Ok(), PayloadTooLargeError)
        assert str(large) == "the payload has 200000 bytes; the broker's max_message_size is 100000"
        assert last == Ok()
        made = sender.publish(b"c", b"x" * 100_001, b"x" * 100_000, b"d")
        assert [type(each) for each in made] == [Ok, PayloadTooLargeError, Ok, Ok]
        assert sender.lost is None


def test_large_bodies_do_not_hold_up_each_other_for_long(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """Growing sizes are proven one by one; what was proven goes together, in order."""
    sizes = [70_000, 80_000, 70_000, 90_000, 10, 300_000, 300_000]
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        assert sender.publish(*(b"x" * size for size in sizes)) == [Ok()] * len(sizes)


def test_bad_messages_do_not_hold_the_others(rabbitmq: RabbitMqServer, plain: Any, queue_name: str) -> None:
    """5 of 605 messages have a property that the broker refuses: one attempt each, every other once."""
    config = app_config(rabbitmq, queue_name)
    bad = {"CC": {"headers": {"CC": "x"}}, "user_id": {"properties": {"user_id": "somebody"}}}
    made = [Message(str(n)) for n in range(600)]
    for at, (name, given) in enumerate(bad.items()):
        made.insert(100 + at * 200, Message(name, **given))
    with Rambla(config) as app:
        outcomes = app.publish_many("orders", made).outcomes(timeout_s=WAIT_S)
    ends = {(outcome.status, outcome.attempts) for outcome in outcomes}
    assert ends == {("ok", 1), ("fatal", 1)}
    assert sorted(map(int, bodies(plain, queue_name))) == list(range(600))


def test_messages_that_close_the_channel_do_not_hold_the_others(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """The reply identifies the bad ones: fatal at once; the others arrive, with at most one copy a closure."""
    config = app_config(rabbitmq, queue_name)
    config["amqp"]["connections"]["local"]["check_user_id"] = False
    made = [Message(str(n)) for n in range(600)]
    for at in range(5):
        made.insert(60 + at * 120, Message("bad", properties={"user_id": "somebody"}))
    with Rambla(config) as app:
        outcomes = app.publish_many("orders", made).outcomes(timeout_s=WAIT_S)
    assert [outcome.status for outcome in outcomes].count("ok") == 600
    assert {outcome.attempts for outcome in outcomes if outcome.status == "fatal"} == {1}
    arrived = bodies(plain, queue_name)
    assert set(arrived) == {str(n).encode() for n in range(600)}
    assert max(arrived.count(body) for body in set(arrived)) <= 2


@pytest.mark.parametrize("kind", ["other arguments", "exclusive", "exchange type", "wrong type", "missing"])
def test_a_declaration_that_cannot_succeed_takes_the_channel_down(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, unique_name: str, kind: str
) -> None:
    """An operator must act: state ``down``, and an error with a hint."""
    plain.queue_declare(queue_name, durable=True, arguments={"x-max-length": 3})
    plain.queue_declare(unique_name, exclusive=True)
    declare: dict[str, Any] = {
        "other arguments": {"queue": {"name": queue_name}},
        "exclusive": {"queue": {"name": unique_name, "exclusive": True}},
        "exchange type": {"exchange": {"name": unique_name, "type": "topics"}},
        "wrong type": {"queue": {"name": f"{unique_name}-w", "arguments": {"x-message-ttl": "60000"}}},
        "missing": {"queue": {"name": f"{unique_name}-m", "passive": True}},
    }[kind]
    config = app_config(rabbitmq, queue_name)
    config["amqp"]["channels"]["orders"]["options"]["declare"] = declare
    with Rambla(config) as app:
        app.publish("orders", 1, expires_s=1.0).outcomes(timeout_s=WAIT_S)
        status = app.status()["amqp.orders"]
        assert status.state == "down"
        assert "AccessError" in str(status.last_error)
        app.stop(timeout_s=0.5)
