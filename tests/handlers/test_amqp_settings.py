"""The tables of the amqp handler, the parameters of pika, and the errors of connecting."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import msgspec
import pytest
from amqp_deliveries import amqp_options
from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow

from rambla_py.config import load_config
from rambla_py.config.conversion import dec_hook
from rambla_py.errors import AccessError, ConfigError, ConnectionLostError
from rambla_py.handler import secret_text
from rambla_py.handlers.amqp.errors import connect_error, lost_error
from rambla_py.handlers.amqp.settings import AmqpSettings, address_of, all_parameters, without_heartbeat

CANARY = "canary-7f3a"


def settings(**table: Any) -> AmqpSettings:
    return msgspec.convert(table, AmqpSettings, dec_hook=dec_hook)


def one(**table: Any) -> Any:
    (parameters,) = all_parameters(settings(**table))
    return parameters


def login(parameters: Any) -> tuple[str, str]:
    return (parameters.credentials.username, parameters.credentials.password)


def test_without_anything_it_is_the_local_broker() -> None:
    """localhost:5672 as guest on the virtual host /."""
    parameters = one()
    assert (address_of(parameters), login(parameters), parameters.virtual_host) == (
        "localhost:5672",
        ("guest", "guest"),
        "/",
    )


def test_a_url_says_everything() -> None:
    """Host, port, credentials and virtual host come from the URL, unquoted."""
    parameters = one(url="amqp://shop:p%40ss@broker:5673/sho%2Fp")
    assert (address_of(parameters), login(parameters), parameters.virtual_host) == (
        "broker:5673",
        ("shop", "p@ss"),
        "sho/p",
    )


def test_a_url_may_leave_the_password_out() -> None:
    """What stands beside the URL replaces what is in it."""
    parameters = one(url="amqp://shop@broker", password="s3cret", virtual_host="v")
    assert (login(parameters), parameters.virtual_host) == (("shop", "s3cret"), "v")


def test_several_urls_keep_their_order() -> None:
    """Each URL is a broker of its own."""
    found = all_parameters(settings(urls=["amqp://one", "amqps://two"]))
    assert [address_of(each) for each in found] == ["one:5672", "two:5671"]


def test_tls_changes_the_port_that_is_not_given() -> None:
    """With TLS it is 5671, by host and by URL."""
    assert [one(tls=True).port, one(tls=True, url="amqp://broker").port, one(tls=True, port=99).port] == [
        5671,
        5671,
        99,
    ]


def test_tls_asks_for_the_name_of_the_certificate() -> None:
    """The host's, or ``server_name``; the certificate is checked."""
    options = one(host="broker", tls={"server_name": "mq.internal"}).ssl_options
    assert (options.server_hostname, options.context.verify_mode) == ("mq.internal", ssl.CERT_REQUIRED)
    assert one(host="broker", tls=True).ssl_options.server_hostname == "broker"


def test_tls_can_trust_any_certificate() -> None:
    """``verify = false`` takes any certificate."""
    context = one(tls={"verify": False}).ssl_options.context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_a_missing_file_of_tls_needs_an_operator() -> None:
    """A CA file that is not there is an AccessError."""
    with pytest.raises(AccessError, match="tls"):
        one(tls={"ca_file": "no/such/file.pem"})


def test_times_are_bounded() -> None:
    """connect_timeout_s bounds each stage; pika itself does not try again."""
    parameters = one(connect_timeout_s=2.5, heartbeat_s=30)
    assert (parameters.socket_timeout, parameters.stack_timeout, parameters.connection_attempts) == (
        2.5,
        2.5,
        1,
    )
    assert parameters.heartbeat == 30


def test_the_same_without_a_heartbeat_leaves_the_first_alone() -> None:
    """A copy for the blocking connection has no heartbeat, and the same TLS."""
    parameters = one(heartbeat_s=30, tls=True)
    bare = without_heartbeat(parameters)
    assert (bare.heartbeat, parameters.heartbeat) == (0, 30)
    assert bare.ssl_options is parameters.ssl_options is not None


@pytest.mark.parametrize("url", [f"http://a:{CANARY}@h", f"amqp://a:{CANARY}@h:port", f"a:{CANARY}@h"])
def test_a_wrong_url_is_refused_without_showing_it(url: str) -> None:
    """What is no AMQP URL is a mistake of the configuration; its password is not in the text."""
    with pytest.raises(msgspec.ValidationError) as caught:
        settings(url=url)
    assert CANARY not in str(caught.value)
    assert "amqp://" in str(caught.value)


def test_an_unknown_parameter_of_a_url_is_refused_without_showing_the_password() -> None:
    """A URL may hold parameters of pika; one that pika does not know is named at load."""
    with pytest.raises(msgspec.ValidationError, match="heartbeets") as caught:
        settings(url=f"amqp://a:{CANARY}@h/?heartbeets=3")
    assert CANARY not in str(caught.value)


def test_url_and_urls_exclude_each_other() -> None:
    """One of the two."""
    with pytest.raises(msgspec.ValidationError, match="either url or urls"):
        settings(url="amqp://h", urls=["amqp://h"])


def test_settings_do_not_show_secrets() -> None:
    """Neither passwords nor URLs are in the repr."""
    shown = repr(settings(url=f"amqp://a:{CANARY}@h", password=CANARY))
    assert CANARY not in shown
    assert secret_text(settings(password=CANARY).password) == CANARY


@pytest.mark.parametrize(
    ("declare", "expected"),
    [
        ({"exchange": {}}, "needs a name"),
        ({"bindings": [{"routing_key": "r"}], "exchange": {"name": "x"}}, "needs a queue"),
        ({"queue": {"name": "q"}, "bindings": [{}]}, "needs an exchange"),
        ({"queue": {}}, "name"),
        ({"queue": {"name": "q", "durabel": True}}, "durabel"),
        ([{"exchange": {}}], "needs a name"),
    ],
)
def test_a_declaration_that_cannot_be_made_is_refused(declare: Any, expected: str) -> None:
    """What lacks a name, or has a word that is not known, is a mistake of the configuration."""
    with pytest.raises(msgspec.ValidationError, match=expected):
        amqp_options(declare=declare)


def test_a_declaration_borrows_the_exchange_of_the_channel() -> None:
    """``declare.exchange`` without a name is the channel's own."""
    assert amqp_options(exchange="orders", declare={"exchange": {"type": "topic"}}).declarations()


@pytest.mark.parametrize(
    "query", ["heartbeat=abc", "tcp_options=[", "frame_max=1&frame_max=2", "ssl_options={}"]
)
def test_a_wrong_parameter_of_a_url_is_refused(query: str) -> None:
    """What pika would refuse at connect is refused at load."""
    with pytest.raises(msgspec.ValidationError, match="url with"):
        settings(url=f"amqp://h/?{query}")


def test_the_parameters_of_a_url_are_used() -> None:
    """pika's own parameters may be in the query."""
    assert one(url="amqp://broker/?heartbeat=7").heartbeat == 7


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e18])
def test_durations_are_bounded(seconds: float) -> None:
    """More than 0 and at most 10^9 seconds, with kombu as with amqp."""
    url = {"url": "amqp://h"}
    for table in (
        {"amqp": {"connections": {"c": {**url, "connect_timeout_s": seconds}}}},
        {"kombu": {"connections": {"c": {**url, "connect_timeout_s": seconds}}}},
        {"kombu": {"connections": {"c": {**url, "answer_timeout_s": seconds}}}},
    ):
        with pytest.raises(ConfigError, match="timeout_s"):
            load_config(table)


@pytest.mark.parametrize("given", ["60s", "", "-1", " 5", "1.5", "\u0661", -1])
def test_an_expiration_that_rabbitmq_refuses_is_refused(given: Any) -> None:
    """Whole milliseconds; RabbitMQ closes the channel for anything else."""
    with pytest.raises(msgspec.ValidationError, match="expiration must be whole milliseconds"):
        amqp_options(properties={"expiration": given})


def test_a_direct_reply_without_a_consumer_is_refused() -> None:
    """RabbitMQ closes the channel of a publisher that has no consumer for the reply."""
    with pytest.raises(msgspec.ValidationError, match="needs a consumer"):
        amqp_options(properties={"reply_to": "amq.rabbitmq.reply-to"})


def _in_workflow(error: BaseException) -> BaseException:
    return workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorTransportSetupError(error)])


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ProbableAuthenticationError("refused"),
        exceptions.ProbableAccessDeniedError("refused"),
        exceptions.AuthenticationError("PLAIN"),
        exceptions.ConnectionClosedByBroker(403, "ACCESS_REFUSED"),
        exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost nope not found"),
        exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED - access to queue"),
        exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no exchange 'x' in vhost '/'"),
        exceptions.ChannelClosedByBroker(405, "RESOURCE_LOCKED - cannot obtain exclusive access"),
        exceptions.ChannelClosedByBroker(406, "PRECONDITION_FAILED - inequivalent arg 'durable'"),
        exceptions.ConnectionClosedByBroker(503, "COMMAND_INVALID - unknown exchange type 'topics'"),
        exceptions.StreamLostError("SSLError(1, '[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert')"),
        _in_workflow(ssl.SSLError("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] alert")),
        _in_workflow(ssl.SSLCertVerificationError("certificate verify failed")),
        _in_workflow(ssl.SSLError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert")),
        _in_workflow(exceptions.ProbableAuthenticationError("refused")),
    ],
)
def test_a_refused_connect_needs_an_operator(error: BaseException) -> None:
    """Refused logins, permissions, certificates and declarations are an AccessError with a hint."""
    failed = connect_error(error, where="h:1")
    assert type(failed) is AccessError
    assert str(failed).startswith("h:1: cannot connect: ")
    assert "; " in str(failed)


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - vhost '/' is down"),
        exceptions.ConnectionClosedByBroker(530, "NOT_ALLOWED - access refused: connection limit is reached"),
        exceptions.ChannelClosedByBroker(404, "NOT_FOUND - home node of queue is down or inaccessible"),
        exceptions.ChannelClosedByBroker(403, "ACCESS_REFUSED - refused, backend x returned an error: y"),
    ],
)
def test_a_refusal_that_passes_is_a_loss(error: BaseException) -> None:
    """The reply says that the broker's state is the reason: the worker keeps reconnecting."""
    assert type(connect_error(error, where="h:1")) is ConnectionLostError


def test_a_demanded_certificate_is_named() -> None:
    """The hint names the keys of the tls table."""
    error = connect_error(ssl.SSLError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]"), where="h:1")
    assert "demands a client certificate; set tls.cert_file" in str(error)


@pytest.mark.parametrize(
    "error",
    [
        None,
        exceptions.StreamLostError("gone"),
        exceptions.AMQPHeartbeatTimeout("silent"),
        exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - broker forced connection closure"),
        exceptions.AMQPConnectionError(_in_workflow(ConnectionRefusedError(111, "Connection refused"))),
        _in_workflow(ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number")),
        _in_workflow(socket.gaierror("no such host")),
        workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorStackTimeout("slow")]),
        RuntimeError("unforeseen"),
    ],
)
def test_anything_else_is_a_loss(error: BaseException | None) -> None:
    """Every other error of the connection is a loss, with the innermost cause in its text."""
    for failed in (connect_error(error, where="h:1"), lost_error(error, where="h:1")):
        assert type(failed) is ConnectionLostError
        assert "Workflow" not in str(failed)
