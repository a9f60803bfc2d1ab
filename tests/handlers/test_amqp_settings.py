"""What may be configured for the amqp handler, what becomes of it, and how pika's errors are told."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import msgspec
import pytest
from amqp_deliveries import amqp_options
from pika import exceptions
from pika.adapters.utils import connection_workflow as workflow

from rambla_py.config.conversion import dec_hook
from rambla_py.errors import AccessError, ConnectionLostError, RejectedError, UnroutableError
from rambla_py.handler import secret_text
from rambla_py.handlers.amqp.errors import as_lost, as_refusal
from rambla_py.handlers.amqp.parameters import address_of, all_parameters, without_heartbeat
from rambla_py.handlers.amqp.settings import AmqpSettings

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


def test_tls_can_be_told_to_trust_anyone() -> None:
    """``verify = false`` takes any certificate."""
    context = one(tls={"verify": False}).ssl_options.context
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


def test_a_missing_file_of_tls_needs_a_person() -> None:
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


def test_an_unknown_parameter_of_a_url_is_told_without_the_password() -> None:
    """pika's options may stand in a URL; one it does not know is named."""
    with pytest.raises(ConnectionLostError, match="heartbeets") as caught:
        one(url=f"amqp://a:{CANARY}@h/?heartbeets=3")
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
    ("declare", "told"),
    [
        ({"exchange": {}}, "needs a name"),
        ({"bindings": [{"routing_key": "r"}], "exchange": {"name": "x"}}, "needs a queue"),
        ({"queue": {"name": "q"}, "bindings": [{}]}, "needs an exchange"),
        ({"queue": {}}, "name"),
        ({"queue": {"name": "q", "durabel": True}}, "durabel"),
        ([{"exchange": {}}], "needs a name"),
    ],
)
def test_a_declaration_that_cannot_be_made_is_refused(declare: Any, told: str) -> None:
    """What lacks a name, or has a word that is not known, is a mistake of the configuration."""
    with pytest.raises(msgspec.ValidationError, match=told):
        amqp_options(declare=declare)


def test_a_declaration_borrows_the_exchange_of_the_channel() -> None:
    """``declare.exchange`` without a name is the channel's own."""
    assert amqp_options(exchange="orders", declare={"exchange": {"type": "topic"}}).declarations()


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
        _in_workflow(ssl.SSLCertVerificationError("certificate verify failed")),
        _in_workflow(ssl.SSLError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] alert")),
        _in_workflow(exceptions.ProbableAuthenticationError("refused")),
    ],
)
def test_a_refusal_needs_a_person(error: BaseException) -> None:
    """Credentials, rights and certificates that were refused are an AccessError, told with host and port."""
    told = as_lost(error, where="h:1", during="cannot connect")
    assert type(told) is AccessError
    assert str(told).startswith("h:1: cannot connect: ")


@pytest.mark.parametrize(
    "error",
    [
        None,
        exceptions.StreamLostError("gone"),
        exceptions.AMQPHeartbeatTimeout("silent"),
        exceptions.ConnectionClosedByBroker(320, "CONNECTION_FORCED - broker forced connection closure"),
        exceptions.ChannelClosedByBroker(404, "NOT_FOUND - no exchange"),
        exceptions.AMQPConnectionError(_in_workflow(ConnectionRefusedError(111, "Connection refused"))),
        _in_workflow(ssl.SSLError("[SSL: WRONG_VERSION_NUMBER] wrong version number")),
        _in_workflow(socket.gaierror("no such host")),
        workflow.AMQPConnectionWorkflowFailed([workflow.AMQPConnectorStackTimeout("slow")]),
        RuntimeError("unforeseen"),
    ],
)
def test_anything_else_is_a_loss(error: BaseException | None) -> None:
    """Every other error of the connection is a loss, with the innermost cause in its text."""
    told = as_lost(error, where="h:1")
    assert type(told) is ConnectionLostError
    assert "Workflow" not in str(told)


@pytest.mark.parametrize(
    ("reason", "exchange", "alone", "kind"),
    [
        (exceptions.ChannelClosedByBroker(404, "no exchange 'x' in vhost '/'"), "x", False, UnroutableError),
        (exceptions.ChannelClosedByBroker(404, "no exchange 'x' in vhost '/'"), "xy", False, type(None)),
        (exceptions.ChannelClosedByBroker(403, "access to exchange 'x' in vhost"), "x", False, RejectedError),
        (exceptions.ChannelClosedByBroker(406, "message size 9 larger than 8"), "", True, RejectedError),
        (exceptions.ChannelClosedByBroker(406, "message size 9 larger than 8"), "", False, type(None)),
        (exceptions.StreamLostError("gone"), "x", True, type(None)),
    ],
)
def test_a_closed_channel_says_who_was_refused(
    reason: BaseException, exchange: str, alone: bool, kind: type
) -> None:
    """Those to the exchange that the broker names, or the only one in flight; nobody else."""
    assert type(as_refusal(reason, exchange=exchange, alone=alone)) is kind
