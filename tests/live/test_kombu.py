"""What is special to kombu's transports: routes, confirms, losses, alarms, Amazon's queues."""

from __future__ import annotations

import base64
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import kombu
import pytest
from broker_apps import app_on, statuses
from moto.server import ThreadedMotoServer

from rambla_py.errors import (
    AccessError,
    ConfigError,
    PayloadTooLargeError,
    PermanentError,
    ReceiptTimeoutError,
    RejectedError,
    UnroutableError,
)
from rambla_py.testing import RabbitMqServer, RedisServer, TlsFiles
from rambla_py.testing.server_process import deadline


def taken(url: str, queue: str, **arguments: Any) -> list[Any]:
    """Take everything out of a queue."""
    found = []
    with kombu.Connection(url, **arguments) as connection, connection.SimpleQueue(queue) as messages:
        while True:
            try:
                message = messages.get(timeout=0.5)
            except messages.Empty:
                return found
            message.ack()
            found.append(message)


def test_a_message_carries_properties_and_is_decoded(rabbitmq: RabbitMqServer, queue_name: str):
    """What kombu's consumers look at is there: headers, id, priority, expiry, and the payload itself."""
    options = {"headers": {"kind": "paid"}, "message_priority": 3, "message_expiry_s": 60}
    with app_on("kombu", {"url": rabbitmq.url}, queue=queue_name) as app:
        app.publish("orders", {"n": 1}, id="the-id", **options).result(timeout_s=5)
    with kombu.Connection(rabbitmq.url) as connection:
        message = kombu.Queue(queue_name).bind(connection.channel()).get(no_ack=True)
    assert (message.payload, message.headers) == ({"n": 1}, {"kind": "paid"})
    properties = message.properties
    assert (properties["message_id"], properties["priority"], properties["delivery_mode"]) == ("the-id", 3, 2)
    assert properties["expiration"] == "60000"


@pytest.mark.parametrize("url", ["memory://", "RABBITMQ", "REDIS"])
def test_a_message_that_no_queue_takes_fails(
    url: str, rabbitmq: RabbitMqServer, redis_server: RedisServer, unique_name: str
):
    """No transport drops a message without a word."""
    url = {"RABBITMQ": rabbitmq.url, "REDIS": redis_server.url}.get(url, url)
    options = {"exchange": unique_name, "queue": unique_name, "routing_key": "known"}
    with app_on("kombu", {"url": url}, **options) as app:
        assert statuses(app, ["x"]) == ["ok"]
        (outcome,) = app.publish("orders", "x", routing_key="unknown").outcomes(timeout_s=5)
        assert (outcome.status, outcome.attempts, type(outcome.error)) == ("fatal", 2, UnroutableError)
        assert statuses(app, ["x"]) == ["ok"]


def test_an_exchange_that_is_not_there_needs_an_operator(
    rabbitmq: RabbitMqServer, queue_name: str, unique_name: str
):
    """The broker closes the channel: the message waits for the exchange, and then flows."""
    with app_on("kombu", {"url": rabbitmq.url}, queue=queue_name) as app:
        receipt = app.publish("orders", "x", exchange=unique_name, mandatory=False)
        assert any("AccessError" in str(app.status()["broker.orders"].last_error) for _ in deadline(10))
        assert "create what is missing" in str(app.status()["broker.orders"].last_error)
        with kombu.Connection(rabbitmq.url) as connection:
            kombu.Exchange(unique_name, "fanout", delivery_mode=1, durable=False).declare(
                channel=connection.channel()
            )
        assert receipt.outcomes(timeout_s=40)[0].status == "ok"


@pytest.mark.parametrize("kind", ["other arguments", "exchange type"])
def test_a_declaration_that_cannot_succeed_takes_the_channel_down(
    kind: str, rabbitmq: RabbitMqServer, queue_name: str, unique_name: str
):
    """An operator must act: state ``down``, and an error with a hint."""
    with kombu.Connection(rabbitmq.url) as connection:
        kombu.Queue(queue_name, max_length=3).bind(connection.channel()).declare()
        kombu.Exchange(unique_name, "fanout").declare(channel=connection.channel())
    options = {"exchange": unique_name} if kind == "exchange type" else {}
    with app_on("kombu", {"url": rabbitmq.url}, queue=queue_name, expires_s=1.0, **options) as app:
        app.publish("orders", 1).outcomes(timeout_s=20)
        status = app.status()["broker.orders"]
        assert (status.state, "differs from what exists" in str(status.last_error)) == ("down", True)


def test_a_message_comes_once_however_long_publishers_are_blocked(rabbitmq: RabbitMqServer, queue_name: str):
    """A memory alarm longer than the time-outs: the message waits for its confirm, and is not sent again."""
    channel = {"attempt_timeout_s": 1.0}
    settings = {"url": rabbitmq.url, "answer_timeout_s": 0.5}
    with app_on("kombu", settings, channel=channel, queue=queue_name) as app:
        assert statuses(app, ["warm"]) == ["ok"]
        rabbitmq.set_memory_alarm(True)
        receipt = app.publish_many("orders", range(5))
        assert any(app.status()["broker.orders"].state == "blocked" for _ in deadline(10))
        with pytest.raises(ReceiptTimeoutError):
            receipt.outcomes(timeout_s=3)
        rabbitmq.set_memory_alarm(False)
        assert [one.status for one in receipt.outcomes(timeout_s=20)] == ["ok"] * 5
    assert [message.payload for message in taken(rabbitmq.url, queue_name)] == ["warm", *range(5)]


def test_a_ping_says_that_publishers_are_blocked(rabbitmq: RabbitMqServer, queue_name: str):
    """RabbitMQ tells it only to a connection that publishes, so the ping does."""
    app = app_on("kombu", {"url": rabbitmq.url}, queue=queue_name)
    assert app.ping("orders")[0].ok
    rabbitmq.set_memory_alarm(True)
    assert "blocks publishers" in str(app.ping("orders")[0].error)
    rabbitmq.set_memory_alarm(False)


@pytest.mark.parametrize("url", ["RABBITMQ", "memory://"])
@pytest.mark.parametrize("headers", [{"ratio": float("nan")}, {"CC": "copies"}])
def test_what_rabbitmq_is_known_to_refuse_is_not_sent(
    url: str, headers: dict[str, Any], rabbitmq: RabbitMqServer, queue_name: str
):
    """It is fatal at the first attempt, naming the header; the connection is kept."""
    url = {"RABBITMQ": rabbitmq.url}.get(url, url)
    with app_on("kombu", {"url": url}, queue=queue_name) as app:
        (outcome,) = app.publish("orders", "x", headers=headers).outcomes(timeout_s=10)
        assert (outcome.status, outcome.attempts, type(outcome.error)) == ("fatal", 1, PermanentError)
        assert next(iter(headers)) in str(outcome.error)
        assert app.status()["broker.orders"].reasons.get("lost:UnknownOutcomeError", 0) == 0


def test_a_body_over_the_brokers_limit_is_fatal(strict_rabbitmq: RabbitMqServer, queue_name: str):
    """The broker names its limit, which holds from then on."""
    with app_on("kombu", {"url": strict_rabbitmq.url}, queue=queue_name) as app:
        for _ in range(2):
            (outcome,) = app.publish("orders", b"x" * 200_000).outcomes(timeout_s=10)
            assert (outcome.status, outcome.attempts, type(outcome.error)) == (
                "fatal",
                1,
                PayloadTooLargeError,
            )
            assert "200000 bytes" in str(outcome.error)
        assert statuses(app, ["x"]) == ["ok"]


def test_a_broker_that_refuses_is_heard(rabbitmq: RabbitMqServer, queue_name: str):
    """A nack fails the message, which is retried, and harms no other."""
    arguments = {"x-max-length": 1, "x-overflow": "reject-publish"}
    with app_on("kombu", {"url": rabbitmq.url}, queue=queue_name, queue_arguments=arguments) as app:
        assert statuses(app, ["fits"]) == ["ok"]
        (outcome,) = app.publish("orders", "x").outcomes(timeout_s=5)
    assert (outcome.status, outcome.attempts, type(outcome.error)) == ("fatal", 2, RejectedError)


def test_a_connection_that_ended_while_idle_is_noticed(rabbitmq: RabbitMqServer, queue_name: str):
    """Nothing is written to a connection that the broker has closed: no outcome is unknown."""
    channel = {"on_unknown": "report"}
    with app_on("kombu", {"url": rabbitmq.url}, channel=channel, queue=queue_name) as app:
        assert statuses(app, ["x"]) == ["ok"]
        rabbitmq.rabbitmqctl("close_all_connections", "for a test")
        assert statuses(app, ["x"]) == ["ok"]


def test_a_process_with_many_files(rabbitmq: RabbitMqServer, queue_name: str):
    """A connection whose number is over 1,023 is as good as any other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    with ExitStack() as files:
        for _ in range(1_100):
            files.enter_context(Path(os.devnull).open())
        with app_on("kombu", {"url": rabbitmq.url}, queue=queue_name) as app:
            assert statuses(app, ["a", "b"]) == ["ok", "ok"]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    "options",
    [{"routing_key": "x" * 300}, {"id": "x" * 300}, {"headers": {"n": 2**70}}],
    ids=["routing_key", "id", "header"],
)
def test_what_the_protocol_does_not_hold_is_fatal(
    options: dict[str, Any], rabbitmq: RabbitMqServer, queue_name: str
):
    """A text over 255 bytes, a number over 64 bits: no retry would mend it, and the next message flows."""
    with app_on("kombu", {"url": rabbitmq.url}, queue=queue_name) as app:
        (outcome,) = app.publish("orders", "no", **options).outcomes(timeout_s=10)
        assert (outcome.status, outcome.attempts) == ("fatal", 1)
        assert type(outcome.error) is PermanentError
        assert "255 bytes" in str(outcome.error)
        assert statuses(app, ["yes"]) == ["ok"]


def test_a_certificate_that_is_not_trusted(rabbitmq: RabbitMqServer, tls_files: TlsFiles):
    """An unknown authority is refused access; a known one is not."""
    ping = app_on("kombu", {"url": rabbitmq.tls_url, "tls": True}).ping("orders")[0]
    assert isinstance(ping.exception, AccessError)
    known = {"ca_file": str(tls_files.authority), "server_name": "localhost"}
    assert app_on("kombu", {"url": rabbitmq.tls_url, "tls": known}).ping("orders")[0].ok


def test_a_demanded_client_certificate_is_named(strict_rabbitmq: RabbitMqServer, tls_files: TlsFiles):
    """Without one the broker hangs up in TLS: an operator must act."""
    tls = {"ca_file": str(tls_files.authority), "server_name": "localhost"}
    (ping,) = app_on("kombu", {"url": strict_rabbitmq.tls_url, "tls": tls}).ping("orders")
    assert isinstance(ping.exception, AccessError)
    assert "client certificate" in str(ping.error)


@pytest.mark.parametrize("url", ["amqp://h/?bogus=1", "redis://h/0?bogus=1"])
def test_a_parameter_that_kombu_does_not_know_is_refused(url: str):
    """A wrong parameter in the URL is an error of the configuration."""
    with pytest.raises(ConfigError, match="bogus"):
        app_on("kombu", {"url": url})


@pytest.mark.filterwarnings("ignore:.*noload.*")
def test_rows_of_a_table(tmp_path: Path):
    """A message becomes a row of kombu's table."""
    url = f"sqla+sqlite:///{tmp_path}/queue.db"
    with app_on("kombu", {"url": url}, queue="orders") as app:
        assert statuses(app, [{"n": at} for at in range(20)]) == ["ok"] * 20
    assert [message.payload["n"] for message in taken(url, "orders")] == list(range(20))


@pytest.mark.filterwarnings("ignore:.*noload.*")
def test_an_error_of_a_table_shows_no_payload(tmp_path: Path):
    """SQLAlchemy puts what was to be written into its errors; logs are no place for it."""
    url = f"sqla+sqlite:///{tmp_path}/queue.db"
    channel = {"on_unknown": "report"}
    with app_on("kombu", {"url": url}, channel=channel, queue="orders") as app:
        assert statuses(app, ["first"]) == ["ok"]
        with closing(sqlite3.connect(tmp_path / "queue.db", isolation_level=None)) as other:
            other.execute("drop table kombu_message")
        (outcome,) = app.publish("orders", "canary").outcomes(timeout_s=10)
    assert outcome.status == "unknown"
    assert "no such table" in str(outcome.error)
    assert "canary" not in str(outcome.error)
    assert base64.b64encode(b"canary").decode() not in str(outcome.error)


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a server that speaks as Amazon's SQS does."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"sqs://key:secret@{host}:{port}//"
    server.stop()


@pytest.mark.filterwarnings("ignore:.*utcnow.*")
def test_a_queue_of_amazon(amazon: str):
    """Messages go to SQS, where a payload over its limit is fatal."""
    options = {"is_secure": False, "region": "eu-central-1"}
    with app_on("kombu", {"url": amazon, "transport_options": options}, queue="orders") as app:
        assert statuses(app, [{"n": at} for at in range(5)]) == ["ok"] * 5
        (outcome,) = app.publish("orders", b"x" * 2_000_000).outcomes(timeout_s=10)
        assert (outcome.status, type(outcome.error)) == ("fatal", PermanentError)


@pytest.mark.parametrize(("url", "words"), [("memry://", "did you mean 'memory'"), ("nonsense", "transport")])
def test_a_url_of_no_transport_is_refused(url: str, words: str):
    """A configuration that cannot work is refused, with the nearest name."""
    with pytest.raises(ConfigError, match=words):
        app_on("kombu", {"url": url})


def test_a_name_to_expect_is_refused_where_it_would_not_be_looked_at():
    """Redis checks the host of the URL and no other name; a table that says one would be half believed."""
    with pytest.raises(ConfigError, match="server_name"):
        app_on("kombu", {"url": "redis://localhost", "tls": {"server_name": "redis.internal"}})
