"""This module tests the amqp handler against real RabbitMQ servers."""

from __future__ import annotations

import itertools
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pika
import pytest

from rambla_py import Message, Rambla
from rambla_py.config.conversion import dec_hook
from rambla_py.delivery import Delivery
from rambla_py.encoding import encode
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    RejectedError,
    SerializationError,
    UnknownOutcomeError,
    UnroutableError,
)
from rambla_py.handler import Link, State
from rambla_py.handlers.amqp import AmqpHandler
from rambla_py.message import Ok
from rambla_py.policy import Policy
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.server_process import deadline, free_port
from rambla_py.testing.servers import RabbitMqServer, Server, TlsFiles

Proxies = Callable[[Server], FaultProxy]

WAIT_S = 20.0
_numbers = itertools.count(1)


class Target:
    service, channel, id_prefix = "amqp", "orders", "run-"

    def encode(self, delivery: Delivery) -> bytes:
        return encode(delivery.payload, format=delivery.policy.format, serializer=delivery.policy.serializer)


class Worker:
    """Stands for a worker: a handler with a live connection, and the first answer to each delivery."""

    def __init__(self, settings: dict[str, Any], options: dict[str, Any], *, late: bool = False) -> None:
        self.options = msgspec.convert(options, AmqpHandler.Options)
        self.handler = AmqpHandler(
            msgspec.convert(settings, AmqpHandler.Connection, dec_hook=dec_hook),
            channel="orders",
            service="amqp",
            options=self.options,
        )
        self.answers: dict[Delivery, Any] = {}
        self.held: list[bool] = []
        self.lost: BaseException | None = None
        self._changed = threading.Condition()
        self.connection: Any = None
        if not late:
            self.connect()

    def connect(self) -> None:
        self.lost = None
        self.handler.link = Link(lost=self._on_lost, hold=self._on_hold)
        self.connection = self.handler.connect()
        self.state = State(self.connection, "orders", "amqp")

    def close(self) -> None:
        self.handler.close(self.connection)

    def make(self, payload: Any, *, given_id: str | None = None, **changes: Any) -> Delivery:
        headers = changes.pop("headers", {})
        options = self.options
        if changes:
            table = {**msgspec.to_builtins(options), **changes}
            options = msgspec.convert(table, AmqpHandler.Options)
        return Delivery(
            payload=payload,
            target=Target(),
            receipt=None,
            seq=next(_numbers),
            accepted_at=0.0,
            options=options,
            policy=Policy(),
            headers=headers,
            given_id=given_id,
            session=self,
        )

    def send(self, *payloads: Any) -> list[Delivery]:
        made = [each if isinstance(each, Delivery) else self.make(each) for each in payloads]
        self.handler.handle_deliveries(made, self.state)
        return made

    def publish(self, *payloads: Any) -> list[Any]:
        """Send, wait, and return the answers in order."""
        made = self.send(*payloads)
        self.wait(lambda: all(each in self.answers for each in made))
        return [self.answers[each] for each in made]

    def settle(self, delivery: Delivery, answer: Any) -> None:
        with self._changed:
            self.answers.setdefault(delivery, answer)
            self._changed.notify_all()

    def settle_ok(self, delivery: Delivery, result: Any) -> None:
        self.settle(delivery, Ok(result))

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_S), f"not within {WAIT_S:g} s: {self.connection!r}"

    def _on_lost(self, error: BaseException) -> None:
        with self._changed:
            self.lost = error
            self._changed.notify_all()

    def _on_hold(self, held: bool) -> None:
        with self._changed:
            self.held.append(held)
            self._changed.notify_all()


@contextmanager
def worker(server: Any, settings: dict[str, Any] | None = None, **options: Any) -> Iterator[Worker]:
    made = Worker({"host": server.host, "port": server.port, **(settings or {})}, options)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def plain(rabbitmq: RabbitMqServer) -> Iterator[Any]:
    """A channel of pika's own, to look at what arrived."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


def to_queue(name: str, **arguments: Any) -> dict[str, Any]:
    """Options that lead to a queue of that name, declared on the way."""
    return {"routing_key": name, "declare": {"queue": {"name": name, "arguments": arguments}}}


def bodies(channel: Any, queue: str) -> list[bytes]:
    """Take all that is in a queue."""
    taken = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return taken
        taken.append(body)


def depth(channel: Any, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def stop_still(server: Server) -> None:
    """Pause a server, and wait until every thread of it stands still: a signal takes its time."""
    server.pause()
    assert any(set(_states(server.pid)) == {"T"} for _ in deadline(WAIT_S))


def _states(group: int | None) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                yield fields[0]


# -- publishing ---------------------------------------------------------------------------------------


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


# -- what the broker refuses --------------------------------------------------------------------------


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
    """``mandatory = false`` says so: the broker confirms what nobody takes."""
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


def test_a_missing_exchange_fails_what_was_sent_there(
    rabbitmq: RabbitMqServer, queue_name: str, unique_name: str
) -> None:
    """The broker closes the channel: its own messages failed, the rest is unknown, and the link is lost."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        bad = sender.make(b"bad", exchange=unique_name)
        after = sender.make(b"after")
        first, second = sender.publish(bad, after)
        assert type(first) is UnroutableError
        assert f"404 NOT_FOUND - no exchange '{unique_name}'" in str(first)
        assert type(second) is UnknownOutcomeError
        sender.wait(lambda: sender.lost is not None)
        assert "404 NOT_FOUND" in str(sender.lost)
        sender.close()
        sender.connect()
        assert sender.publish(b"again") == [Ok()]


def test_a_message_that_closes_the_channel_alone_is_told_why(
    rabbitmq: RabbitMqServer, queue_name: str
) -> None:
    """A user_id that is not ours: 406, and the message failed with it."""
    with worker(rabbitmq, **to_queue(queue_name), properties={"user_id": "somebody"}) as sender:
        (answer,) = sender.publish(b"x")
        assert type(answer) is RejectedError
        assert "406 PRECONDITION_FAILED" in str(answer)
        sender.wait(lambda: sender.lost is not None)


# -- declaring ----------------------------------------------------------------------------------------


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
    """What is not there is an error of connect, with the broker's words."""
    options = {"declare": {"queue": {"name": queue_name, "passive": True}}}
    with pytest.raises(ConnectionLostError, match="404 NOT_FOUND - no queue"):
        Worker({"host": rabbitmq.host, "port": rabbitmq.port}, options)


def test_a_declaration_that_differs_is_refused(rabbitmq: RabbitMqServer, plain: Any, queue_name: str) -> None:
    """The queue is there with other arguments: connect fails with the broker's words."""
    plain.queue_declare(queue_name, durable=False)
    with pytest.raises(ConnectionLostError, match="406 PRECONDITION_FAILED"):
        Worker({"host": rabbitmq.host, "port": rabbitmq.port}, to_queue(queue_name))


# -- without confirms ---------------------------------------------------------------------------------


def test_without_confirms_messages_are_ok_once_written(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """All arrive when nothing goes wrong; the broker is not asked."""
    with worker(rabbitmq, **to_queue(queue_name), confirm=False) as sender:
        assert sender.publish(*range(500)) == [Ok()] * 500
    assert len(bodies(plain, queue_name)) == 500


def test_without_confirms_a_returned_message_is_told_in_the_log(
    rabbitmq: RabbitMqServer, unique_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It cannot be taken back; a warning says so."""
    with (
        caplog.at_level(logging.WARNING, "rambla_py.amqp"),
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
        stop_still(rabbitmq)
        sent = sender.send(*[b"x" * 1_000_000] * 60)
        assert len(sender.answers) < len(sent)
        rabbitmq.resume()
        sender.wait(lambda: len(sender.answers) == len(sent))
        assert set(sender.answers.values()) == {Ok()}


# -- losing the connection ----------------------------------------------------------------------------


def test_a_killed_broker_leaves_what_is_in_flight_unknown(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """The link is lost, each message has one answer, and after a new start the handler works again."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        assert sender.publish(b"before") == [Ok()]
        stop_still(rabbitmq)
        sent = sender.send(*range(100))
        rabbitmq.kill()
        sender.wait(lambda: sender.lost is not None and len(sender.answers) == 101)
        assert {type(sender.answers[each]) for each in sent} == {UnknownOutcomeError}
        assert isinstance(sender.lost, ConnectionLostError)
        sender.close()
        rabbitmq.start()
        sender.connect()
        assert sender.publish(b"after") == [Ok()]


def test_a_loss_is_heard_of_while_idle(
    rabbitmq: RabbitMqServer, queue_name: str, fault_proxy: Proxies
) -> None:
    """Nothing needs to be published to learn that the connection is gone."""
    proxy = fault_proxy(rabbitmq)
    with worker(proxy, **to_queue(queue_name)) as sender:
        proxy.reset()
        sender.wait(lambda: sender.lost is not None)
        with pytest.raises(ConnectionLostError):
            sender.handler.ping(sender.connection)


def test_what_was_never_written_is_told_apart(
    rabbitmq: RabbitMqServer, queue_name: str, fault_proxy: Proxies
) -> None:
    """A message handed over after the loss failed before the write: it is not unknown."""
    proxy = fault_proxy(rabbitmq)
    with worker(proxy, **to_queue(queue_name)) as sender:
        proxy.cut()
        sender.wait(lambda: sender.lost is not None)
        (answer,) = sender.publish(b"late")
        assert type(answer) is ConnectionLostError


@pytest.mark.parametrize("at", [0, 100, 5_000, 60_000])
def test_every_message_has_one_answer_however_the_connection_ends(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str, fault_proxy: Proxies, at: int
) -> None:
    """Cut in mid-batch: each is ok or unknown, and what is ok has arrived."""
    proxy = fault_proxy(rabbitmq)
    with worker(proxy, **to_queue(queue_name)) as sender:
        proxy.cut_after(at)
        sent = sender.send(*(f"{number:0200}" for number in range(400)))
        sender.wait(lambda: len(sender.answers) == len(sent))
        assert proxy.cuts >= 1
        kinds = [type(sender.answers[each]) for each in sent]
        assert set(kinds) <= {Ok, UnknownOutcomeError}
    arrived = set(bodies(plain, queue_name))
    confirmed = {each.body() for each in sent if type(sender.answers[each]) is Ok}
    assert confirmed <= arrived


def test_a_silent_broker_is_found_out_by_heartbeats(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """A broker that stands still answers nothing: after the heartbeat's time the connection is lost."""
    with worker(rabbitmq, {"heartbeat_s": 1}, **to_queue(queue_name)) as sender:
        stop_still(rabbitmq)
        sender.send(b"into the void")
        sender.wait(lambda: sender.lost is not None)
        assert "the connection was lost: AMQPHeartbeatTimeout" in str(sender.lost)


def test_closing_is_polite_bounded_and_may_be_repeated(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """Twice, from two threads, with a broker that does not answer: it returns, and the thread has ended."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        stop_still(rabbitmq)
        sent = sender.send(b"in flight")
        assert any("1 unconfirmed" in repr(sender.connection) for _ in deadline(WAIT_S))
        begun = time.monotonic()
        other = threading.Thread(target=sender.close)
        other.start()
        sender.close()
        other.join(WAIT_S)
        assert time.monotonic() - begun < 5
        assert not [each for each in threading.enumerate() if each.name == "rambla amqp.orders amqp i/o"]
        assert type(sender.answers[sent[0]]) is UnknownOutcomeError
        assert sender.lost is None


def test_pika_is_quiet_about_losses(
    rabbitmq: RabbitMqServer, queue_name: str, fault_proxy: Proxies, caplog: pytest.LogCaptureFixture
) -> None:
    """A lost connection and a refused one are told to the worker, not in a flood of log lines."""
    proxy = fault_proxy(rabbitmq)
    with caplog.at_level(logging.INFO), worker(proxy, **to_queue(queue_name)) as sender:
        proxy.reset()
        sender.wait(lambda: sender.lost is not None)
        sender.close()
        proxy.refuse()
        with pytest.raises(ConnectionLostError):
            sender.connect()
    assert [each.name for each in caplog.records if each.name.startswith("pika")] == []


# -- blocked ------------------------------------------------------------------------------------------


def test_an_alarm_holds_the_worker_until_it_is_lifted(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """The broker blocks who publishes: hold; afterwards release, and the message is confirmed."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        rabbitmq.set_memory_alarm(True)
        sent = sender.send(b"blocked")
        sender.wait(lambda: sender.held == [True])
        with pytest.raises(DeliveryError, match="blocks publishers"):
            sender.handler.ping(sender.connection)
        rabbitmq.set_memory_alarm(False)
        sender.wait(lambda: sender.held == [True, False] and sent[0] in sender.answers)
        assert sender.answers[sent[0]] == Ok()


# -- connecting ---------------------------------------------------------------------------------------


def test_several_urls_are_tried_in_order(
    rabbitmq: RabbitMqServer, queue_name: str, fault_proxy: Proxies
) -> None:
    """The first that answers is taken; after a loss it is the turn of the one that follows."""
    one, two = fault_proxy(rabbitmq), fault_proxy(rabbitmq)
    urls = [f"amqp://guest:guest@127.0.0.1:{port}/" for port in (free_port(), one.port, two.port)]
    sender = Worker({"urls": urls}, to_queue(queue_name))
    assert (one.connections, two.connections) == (1, 0)
    sender.close()
    sender.connect()
    assert (one.connections, two.connections) == (1, 1)
    sender.close()
    sender.connect()
    assert (one.connections, two.connections) == (2, 1)
    sender.close()


def test_nothing_listens(unique_name: str) -> None:
    """Each broker that was tried is named."""
    ports = [free_port(), free_port()]
    urls = [f"amqp://guest:guest@127.0.0.1:{port}/" for port in ports]
    with pytest.raises(ConnectionLostError) as caught:
        Worker({"urls": urls}, {"routing_key": unique_name})
    assert type(caught.value) is ConnectionLostError
    assert all(f"127.0.0.1:{port}" in str(caught.value) for port in ports)


@pytest.mark.parametrize(
    "wrong", [{"password": "canary-7f3a"}, {"username": "nobody"}, {"virtual_host": "nope"}]
)
def test_refused_credentials_need_a_person(
    rabbitmq: RabbitMqServer, queue_name: str, wrong: dict[str, str]
) -> None:
    """A wrong password, user or virtual host is an AccessError, without the password in its text."""
    with pytest.raises(AccessError) as caught:
        Worker({"host": rabbitmq.host, "port": rabbitmq.port, **wrong}, to_queue(queue_name))
    told = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert "canary-7f3a" not in told
    assert f"{rabbitmq.host}:{rabbitmq.port}" in told


def test_a_broker_that_accepts_and_is_silent_is_given_up(queue_name: str) -> None:
    """Connecting is bounded by ``connect_timeout_s``."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(ConnectionLostError):
            Worker(
                {"host": "127.0.0.1", "port": silent.getsockname()[1], "connect_timeout_s": 0.5},
                to_queue(queue_name),
            )
        assert time.monotonic() - begun < 4


def test_a_ping_is_a_round_trip(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """It returns while the broker answers, and raises when it does not."""
    with worker(rabbitmq, {"connect_timeout_s": 1.0}, **to_queue(queue_name)) as sender:
        sender.handler.ping(sender.connection)
        stop_still(rabbitmq)
        with pytest.raises(ConnectionLostError, match="no answer"):
            sender.handler.ping(sender.connection)


# -- TLS ----------------------------------------------------------------------------------------------


def test_tls_with_our_authority(rabbitmq: RabbitMqServer, tls_files: TlsFiles, queue_name: str) -> None:
    """A certificate that our CA signed, for the host that we asked for; large bodies too."""
    settings = {"url": rabbitmq.tls_url, "tls": {"ca_file": str(tls_files.authority)}}
    sender = Worker(settings, to_queue(queue_name))
    assert sender.publish(b"small", b"x" * 3_000_000, *range(500)) == [Ok()] * 502
    sender.close()


@pytest.mark.parametrize("wrong", [{}, {"server_name": "elsewhere.example"}])
def test_tls_refuses_a_certificate_that_does_not_fit(
    rabbitmq: RabbitMqServer, tls_files: TlsFiles, queue_name: str, wrong: dict[str, str]
) -> None:
    """An unknown authority, or another name: a person must act."""
    tls = {"ca_file": str(tls_files.authority), **wrong} if wrong else True
    with pytest.raises(AccessError, match="certificate verify failed"):
        Worker({"url": rabbitmq.tls_url, "tls": tls}, to_queue(queue_name))


def test_a_refused_certificate_takes_the_channel_down_with_one_error(
    rabbitmq: RabbitMqServer, queue_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts as a loss: no attempt is spent, one error however often it tries, bounded by ``expires_s``."""
    config = app_config(rabbitmq, queue_name)
    config["amqp"]["connections"]["local"] = {"url": rabbitmq.tls_url, "tls": True}
    with Rambla(config) as app:
        outcome = app.publish("orders", b"x", expires_s=1.5).outcomes(timeout_s=WAIT_S)[0]
        assert (outcome.status, outcome.attempts) == ("expired", 0)
        status = app.status()["amqp.orders"]
        assert status.state == "down"
        assert status.reasons["connect:AccessError"] >= 2
        assert "certificate verify failed" in (status.last_error or "")
    refused = [record for record in caplog.records if record.name == "rambla_py.worker"]
    assert [record.levelname for record in refused] == ["ERROR"]


def test_tls_against_a_plain_port_is_a_loss(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """The server speaks no TLS there."""
    settings = {"host": rabbitmq.host, "port": rabbitmq.port, "tls": True, "connect_timeout_s": 3.0}
    with pytest.raises(ConnectionLostError):
        Worker(settings, to_queue(queue_name))


# -- callables ----------------------------------------------------------------------------------------


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


# -- through the app ----------------------------------------------------------------------------------


def app_config(server: Any, queue: str, **channel: Any) -> dict[str, Any]:
    url = f"amqp://guest:guest@{server.host}:{server.port}/%2F"
    return {
        "amqp": {
            "connections": {"local": {"url": url}},
            "channels": {"orders": {"connection": "local", "options": to_queue(queue), **channel}},
        }
    }


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
            proxy.reset()
        outcomes = [each.outcomes(timeout_s=60)[0].status for each in receipts]
        assert proxy.resets == 5
    assert set(outcomes) == {"ok"}
    assert {f"{turn}-{number}".encode() for turn in range(5) for number in range(300)} <= set(
        bodies(plain, queue_name)
    )
