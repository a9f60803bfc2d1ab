"""The amqp handler publishes to a real RabbitMQ: what arrives, and what is declared."""

from __future__ import annotations

import logging
from typing import Any

import pika
import pytest
from amqp_worker import WAIT_S, Proxies, Worker, app_config, bodies, depth, to_queue, worker

from rambla_py import Message, Rambla
from rambla_py.errors import (
    AccessError,
    PayloadTooLargeError,
    PermanentError,
    SerializationError,
    UnroutableError,
)
from rambla_py.message import Ok
from rambla_py.testing.servers import RabbitMqServer


def test_a_message_arrives_with_all_its_properties(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """What is configured, and what the message brings, is what a plain consumer reads."""
    given = {
        "content_type": "application/x-order",
        "content_encoding": "identity",
        "correlation_id": "corr",
        "reply_to": "answers",
        "expiration": 600_000,
        "type": "order.paid",
        "user_id": "guest",
        "app_id": "shop",
        "timestamp": 1_700_000_000,
        "priority": 7,
        "cluster_id": "c1",
        "headers": {"a": "channel", "b": "channel"},
    }
    with worker(rabbitmq, **to_queue(queue_name), properties=given) as sender:
        sent = sender.make({"id": 42}, headers={"b": "message", "n": 5, "deep": {"list": [1, True, None]}})
        assert sender.publish(sent) == [Ok()]
    method, got, body = plain.basic_get(queue_name, auto_ack=True)
    assert (method.exchange, method.routing_key, body) == ("", queue_name, b'{"id":42}')
    read = {name: getattr(got, name) for name in given}
    assert read == {
        **given,
        "expiration": "600000",
        "headers": {"a": "channel", "b": "message", "n": 5, "deep": {"list": [1, True, None]}},
    }
    assert (got.message_id, got.delivery_mode) == (sent.id, 2)


def test_many_messages_arrive_once_and_in_order(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """Batches keep their order, and every message is confirmed."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        sent = [one for start in range(0, 5_000, 250) for one in sender.send(*range(start, start + 250))]
        sender.wait(lambda: len(sender.answers) == 5_000)
        assert {sender.answers[one] for one in sent} == {Ok()}
    assert bodies(plain, queue_name) == [str(number).encode() for number in range(5_000)]


def test_a_confirmed_message_survives_a_kill_of_the_broker(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """Ok means that it is on disk: it is there after SIGKILL and a new start."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        # What is promised is the message: the broker answers a declaration before it is on disk itself.
        rabbitmq.sync()
        assert sender.publish(*range(50)) == [Ok()] * 50
        rabbitmq.kill()
    rabbitmq.start()
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        assert len(bodies(connection.channel(), queue_name)) == 50


@pytest.mark.parametrize("size", [0, 1, 131_064, 131_065, 400_000])
def test_bodies_of_any_size_arrive_whole(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, size: int
) -> None:
    """An empty body, one that fills its frame, and one of several frames."""
    body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        assert sender.publish(b"before", body, b"after") == [Ok()] * 3
    assert bodies(plain, queue_name) == [b"before", body, b"after"]


def test_a_body_over_the_limit_is_fatal_and_is_not_sent(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """It fails for good; its neighbours and the connection do not notice."""
    with worker(rabbitmq, {"max_message_bytes": 1_000}, **to_queue(queue_name)) as sender:
        first, second, third = sender.publish(b"a", b"x" * 1_001, b"b")
        assert (first, third, type(second), second.retryable) == (Ok(), Ok(), PayloadTooLargeError, False)
    assert bodies(plain, queue_name) == [b"a", b"b"]


def test_a_message_that_cannot_be_encoded_fails_alone(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """A payload that JSON has no place for, a routing key of 300 bytes, an id that is no text."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        made = [
            sender.make(b"a"),
            sender.make({"what": object()}),
            sender.make(b"b", routing_key="k" * 300),
            sender.make(b"c", given_id="\ud800"),
            sender.make(b"d"),
        ]
        answers = sender.publish(*made)
        assert [type(each) for each in answers] == [
            Ok,
            SerializationError,
            PermanentError,
            PermanentError,
            Ok,
        ]
    assert bodies(plain, queue_name) == [b"a", b"d"]


def test_what_is_declared_is_there_and_bound(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, unique_name: str
) -> None:
    """Exchange, queue and binding, with their arguments; declared again on each connect."""
    declare = {
        "exchange": {"type": "topic"},
        "queue": {"name": queue_name, "arguments": {"x-max-length": 3}},
        "bindings": [{"routing_key": "paid.#"}],
    }
    with worker(rabbitmq, exchange=unique_name, routing_key="paid.eu", declare=declare) as sender:
        assert sender.publish(*range(5)) == [Ok()] * 5
        assert depth(plain, queue_name) == 3
        plain.queue_delete(queue_name)
        assert type(sender.publish(b"nowhere")[0]) is UnroutableError
        sender.close()
        sender.connect()
        assert sender.publish(b"there again") == [Ok()]
    assert bodies(plain, queue_name) == [b"there again"]
    plain.exchange_delete(unique_name)


def test_several_tables_are_declared_in_order(rabbitmq: RabbitMqServer, plain: Any, unique_name: str) -> None:
    """A list of tables; a binding may name what another table declared."""
    one, two = f"{unique_name}-1", f"{unique_name}-2"
    declare = [
        {"exchange": {"name": unique_name, "type": "fanout", "durable": False, "auto_delete": True}},
        {"queue": {"name": one}, "bindings": [{"exchange": unique_name}]},
        {"queue": {"name": two}, "bindings": [{"exchange": unique_name}]},
    ]
    with worker(rabbitmq, exchange=unique_name, declare=declare) as sender:
        assert sender.publish(b"both") == [Ok()]
    assert (bodies(plain, one), bodies(plain, two)) == ([b"both"], [b"both"])


def test_a_passive_declaration_only_looks(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """What is missing is an error of connect, with the broker's reply and a hint."""
    options = {"declare": {"queue": {"name": queue_name, "passive": True}}}
    with pytest.raises(AccessError, match="404 NOT_FOUND - no queue"):
        Worker({"host": rabbitmq.host, "port": rabbitmq.port}, options)


def test_a_declaration_that_differs_is_refused(rabbitmq: RabbitMqServer, plain: Any, queue_name: str) -> None:
    """The queue is there with other arguments: connect fails with the broker's reply and a hint."""
    plain.queue_declare(queue_name, durable=False)
    with pytest.raises(AccessError, match="406 PRECONDITION_FAILED"):
        Worker({"host": rabbitmq.host, "port": rabbitmq.port}, to_queue(queue_name))


def test_without_confirms_messages_are_ok_once_written(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """All arrive when nothing goes wrong; the broker is not asked."""
    with worker(rabbitmq, **to_queue(queue_name), confirm=False) as sender:
        assert sender.publish(*range(500)) == [Ok()] * 500
    assert len(bodies(plain, queue_name)) == 500


def test_without_confirms_a_returned_message_is_logged(
    rabbitmq: RabbitMqServer, unique_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be taken back; a warning says so."""
    with (
        caplog.at_level(logging.WARNING, "rambla_py.handlers.amqp"),
        worker(rabbitmq, routing_key=unique_name, confirm=False) as sender,
    ):
        assert sender.publish(b"nowhere") == [Ok()]
        sender.handler.ping(sender.connection)  # the return came before the answer to this
    assert unique_name in caplog.text


def test_without_confirms_a_slow_broker_slows_the_sender(
    rabbitmq: RabbitMqServer, queue_name: str, fault_proxy: Proxies
) -> None:
    """What the socket does not take is not ok."""
    proxy = fault_proxy(rabbitmq)
    with worker(proxy, **to_queue(queue_name), confirm=False) as sender:
        rabbitmq.pause()
        sent = sender.send(*[b"x" * 1_000_000] * 60)
        assert len(sender.answers) < len(sent)
        rabbitmq.resume()
        sender.wait(lambda: len(sender.answers) == len(sent))
        assert set(sender.answers.values()) == {Ok()}


def test_the_destination_of_a_callable_is_a_channel_of_pika(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """The same open channel each time, confirming; a new one after it was closed."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        channel = sender.handler.destination(sender.connection)
        channel.basic_publish("", queue_name, b"by hand")
        with pytest.raises(pika.exceptions.UnroutableError):
            channel.basic_publish("", f"{queue_name}-nowhere", b"x", mandatory=True)
        assert sender.handler.destination(sender.connection) is channel
        channel.close()
        again = sender.handler.destination(sender.connection)
        assert again is not channel
        assert again.is_open
        sender.close()
        assert not again.is_open
    assert bodies(plain, queue_name) == [b"by hand"]


def test_through_the_app_all_is_confirmed(rabbitmq: RabbitMqServer, plain: Any, queue_name: str) -> None:
    """Publishing, options of a message, a failure and a callable, with the audit in balance."""
    with Rambla(app_config(rabbitmq, queue_name)) as app:
        app.publish_many("orders", range(1_000)).result(timeout_s=WAIT_S)
        receipt = app.publish(
            "orders", Message({"id": 1}, routing_key=f"{queue_name}-nowhere", retries=0), headers={"h": "1"}
        )
        (outcome,) = receipt.outcomes(timeout_s=WAIT_S)
        assert (outcome.status, type(outcome.error)) == ("fatal", UnroutableError)
        app.publish(
            "orders",
            lambda source, destination, options: destination.basic_publish("", queue_name, b"by hand"),
        ).result(timeout_s=WAIT_S)
        app.ping("orders")
    assert sorted(bodies(plain, queue_name)) == sorted([*(str(n).encode() for n in range(1_000)), b"by hand"])


def test_through_the_app_nothing_is_lost_when_connections_break(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, fault_proxy: Proxies
) -> None:
    """Cut five times while publishing: everything ends ok, and has arrived at least once."""
    proxy = fault_proxy(rabbitmq)
    with Rambla(app_config(proxy, queue_name)) as app:
        receipts = []
        for turn in range(5):
            receipts += [app.publish("orders", f"{turn}-{number}") for number in range(300)]
            receipts[-300].outcomes(timeout_s=60)
            before = proxy.resets
            proxy.reset()
            assert proxy.resets > before
        outcomes = [each.outcomes(timeout_s=60)[0].status for each in receipts]
    assert set(outcomes) == {"ok"}
    assert {f"{turn}-{number}".encode() for turn in range(5) for number in range(300)} <= set(
        bodies(plain, queue_name)
    )
