"""Connections of the amqp handler to a real RabbitMQ: opened, refused, blocked, lost."""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import Any

import pytest
from amqp_worker import WAIT_S, Proxies, Worker, app_config, bodies, to_queue, worker

from rambla_py import Rambla
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.message import Ok
from rambla_py.testing.server_process import deadline, free_port
from rambla_py.testing.servers import RabbitMqServer, TlsFiles


def test_a_killed_broker_leaves_what_is_in_flight_unknown(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """The link is lost, each message has one answer, and after a new start the handler works again."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        assert sender.publish(b"before") == [Ok()]
        rabbitmq.pause()
        sent = sender.send(*range(100))
        rabbitmq.kill()
        sender.wait(lambda: sender.lost is not None and len(sender.answers) == 101)
        assert {type(sender.answers[each]) for each in sent} == {UnknownOutcomeError}
        assert isinstance(sender.lost, ConnectionLostError)
        sender.close()
        rabbitmq.start()
        sender.connect()
        assert sender.publish(b"after") == [Ok()]


def test_a_loss_is_noticed_while_idle(
    rabbitmq: RabbitMqServer, queue_name: str, fault_proxy: Proxies
) -> None:
    """Nothing needs to be published to learn that the connection is gone."""
    proxy = fault_proxy(rabbitmq)
    with worker(proxy, **to_queue(queue_name)) as sender:
        proxy.reset()
        sender.wait(lambda: sender.lost is not None)
        with pytest.raises(ConnectionLostError):
            sender.handler.ping(sender.connection)


def test_what_was_never_written_is_not_unknown(
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
        rabbitmq.pause()
        sender.send(b"into the void")
        sender.wait(lambda: sender.lost is not None)
        assert "the connection was lost: AMQPHeartbeatTimeout" in str(sender.lost)


def test_closing_is_polite_bounded_and_may_be_repeated(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """Twice, from two threads, with a broker that does not answer: it returns, and the thread has ended."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        rabbitmq.pause()
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
    """A lost connection and a refused one are reported to the worker, and not in many log lines."""
    proxy = fault_proxy(rabbitmq)
    with caplog.at_level(logging.INFO), worker(proxy, **to_queue(queue_name)) as sender:
        proxy.reset()
        sender.wait(lambda: sender.lost is not None)
        sender.close()
        proxy.refuse()
        with pytest.raises(ConnectionLostError):
            sender.connect()
    assert [each.name for each in caplog.records if each.name.startswith("pika")] == []


def test_an_alarm_holds_the_worker_until_it_is_lifted(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """Hold when the broker blocks publishers, release afterwards; everything arrives once, in order."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        rabbitmq.set_memory_alarm(True)
        sent = sender.send(b"1")
        sender.wait(lambda: sender.held == [True])
        sent += sender.send(b"2", b"3")
        sender.wait(lambda: len(sender.waiting) == 2)
        with pytest.raises(UnavailableError, match="blocks publishers"):
            sender.handler.ping(sender.connection)
        rabbitmq.set_memory_alarm(False)
        sender.wait(lambda: sender.held == [True, False] and all(each in sender.answers for each in sent))
        assert {sender.answers[each] for each in sent} == {Ok()}
    assert bodies(plain, queue_name) == [b"1", b"2", b"3"]


def test_what_was_not_written_while_blocked_can_be_taken_back(
    rabbitmq: RabbitMqServer, plain: Any, queue_name: str
) -> None:
    """A delivery that expired, or that a stop took back, is not written when the alarm is lifted."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        rabbitmq.set_memory_alarm(True)
        sender.send(b"1")
        sender.wait(lambda: sender.held == [True])
        taken, last = sender.send(b"2", b"3")
        sender.wait(lambda: len(sender.waiting) == 2)
        sender.waiting.remove(taken)
        rabbitmq.set_memory_alarm(False)
        sender.wait(lambda: last in sender.answers)
        assert taken not in sender.answers
    assert bodies(plain, queue_name) == [b"1", b"3"]


def test_a_loss_while_blocked_says_what_was_not_written(
    rabbitmq: RabbitMqServer, queue_name: str, fault_proxy: Proxies
) -> None:
    """What was written is unknown; what was held back was not sent."""
    proxy = fault_proxy(rabbitmq)
    with worker(proxy, **to_queue(queue_name)) as sender:
        rabbitmq.set_memory_alarm(True)
        (written,) = sender.send(b"1")
        sender.wait(lambda: sender.held == [True])
        (held,) = sender.send(b"2")
        sender.wait(lambda: len(sender.waiting) == 1)
        proxy.cut()
        sender.wait(lambda: written in sender.answers and held in sender.answers)
        assert type(sender.answers[written]) is UnknownOutcomeError
        assert type(sender.answers[held]) is ConnectionLostError
    rabbitmq.set_memory_alarm(False)


def test_a_ping_of_a_new_connection_says_that_publishers_are_blocked(
    rabbitmq: RabbitMqServer, queue_name: str
) -> None:
    """The broker tells it only to connections that publish, so the ping does; it is fast all the same."""
    rabbitmq.set_memory_alarm(True)
    began = time.monotonic()
    with Rambla(app_config(rabbitmq, queue_name)) as app:
        (ping,) = app.ping("orders")
    assert "blocks publishers" in str(ping.error)
    assert time.monotonic() - began < 5
    rabbitmq.set_memory_alarm(False)


def test_a_ping_leaves_nothing_behind(rabbitmq: RabbitMqServer, plain: Any, queue_name: str) -> None:
    """The message of a ping is dropped by the broker, and the connection is as it was."""
    with worker(rabbitmq, **to_queue(queue_name)) as sender:
        for _ in range(3):
            sender.handler.ping(sender.connection)
        assert sender.publish(b"x") == [Ok()]
    assert bodies(plain, queue_name) == [b"x"]


def test_a_demanded_client_certificate_is_named(
    strict_rabbitmq: RabbitMqServer, tls_files: TlsFiles, queue_name: str
) -> None:
    """Without one the broker hangs up in TLS: an operator must act, and the error says what to set."""
    tls = {"ca_file": str(tls_files.authority)}
    settings = {"url": strict_rabbitmq.tls_url, "tls": tls}
    with pytest.raises(AccessError, match="demands a client certificate"):
        Worker(settings, to_queue(queue_name))
    with_certificate = {**tls, "cert_file": str(tls_files.certificate), "key_file": str(tls_files.key)}
    sender = Worker({**settings, "tls": with_certificate}, to_queue(queue_name))
    assert sender.publish(b"x") == [Ok()]
    sender.close()


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
def test_refused_credentials_need_an_operator(
    rabbitmq: RabbitMqServer, queue_name: str, wrong: dict[str, str]
) -> None:
    """A wrong password, user or virtual host is an AccessError, without the password in its message."""
    with pytest.raises(AccessError) as caught:
        Worker({"host": rabbitmq.host, "port": rabbitmq.port, **wrong}, to_queue(queue_name))
    shown = f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert "canary-7f3a" not in shown
    assert f"{rabbitmq.host}:{rabbitmq.port}" in shown


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
        rabbitmq.pause()
        with pytest.raises(ConnectionLostError, match="no answer"):
            sender.handler.ping(sender.connection)


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
        assert status.reasons["connect:AccessError"] >= 1
        assert "certificate verify failed" in (status.last_error or "")
    refused = [record for record in caplog.records if record.name == "rambla_py.worker"]
    assert [record.levelname for record in refused] == ["ERROR"]


def test_tls_against_a_plain_port_is_a_loss(rabbitmq: RabbitMqServer, queue_name: str) -> None:
    """The server speaks no TLS there."""
    settings = {"host": rabbitmq.host, "port": rabbitmq.port, "tls": True, "connect_timeout_s": 3.0}
    with pytest.raises(ConnectionLostError):
        Worker(settings, to_queue(queue_name))
