"""This module tests the nats handler against real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import nats
import pytest
from broker_apps import app_on, statuses

from rambla_py.errors import AccessError, PermanentError, RejectedError, UnroutableError
from rambla_py.testing import FaultProxy, Server, TlsFiles
from rambla_py.testing.nats_server import NatsServer
from rambla_py.testing.trial import until


def ask(server: NatsServer, question: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run one question to JetStream, with a client of its own."""

    async def run() -> Any:
        client = await nats.connect(server.url)
        try:
            return await question(client.jetstream())
        finally:
            await client.close()

    return asyncio.run(run())


@pytest.fixture
def stream(nats_server: NatsServer, unique_name: str) -> Iterator[str]:
    """The name of a stream that takes the subjects below its name."""
    ask(nats_server, lambda js: js.add_stream(name=unique_name, subjects=[f"{unique_name}.>"]))
    yield unique_name
    nats_server.start()
    ask(nats_server, lambda js: js.delete_stream(unique_name))


def test_a_message_carries_headers_and_id(nats_server: NatsServer, stream: str):
    """Headers arrive as text, the id where JetStream looks for it."""
    with app_on("nats", {"url": nats_server.url}, subject=f"{stream}.a", stream=stream) as app:
        app.publish("orders", {"n": 1}, id="the-id", headers={"kind": "paid", "tries": 3}).result(timeout_s=5)
    message = ask(nats_server, lambda js: js.get_msg(stream, 1))
    assert (message.subject, message.data) == (f"{stream}.a", b'{"n":1}')
    assert message.headers["Nats-Msg-Id"] == "the-id"
    assert (message.headers["kind"], message.headers["tries"]) == ("paid", "3")


def test_an_id_that_comes_twice_is_stored_once(nats_server: NatsServer, stream: str):
    """The second of an id is ok, and a duplicate."""
    with app_on("nats", {"url": nats_server.url}, subject=f"{stream}.a") as app:
        results = [app.publish("orders", "x", id="same").result(timeout_s=5) for _ in range(2)]
    assert [result.duplicate for result in results] == [False, True]
    assert ask(nats_server, lambda js: js.stream_info(stream)).state.messages == 1


def test_a_subject_without_a_stream_is_told(nats_server: NatsServer, unique_name: str):
    """Nothing that nobody stores is ever ok."""
    with app_on("nats", {"url": nats_server.url}, subject=unique_name) as app:
        (outcome,) = app.publish("orders", "x").outcomes(timeout_s=5)
    assert (outcome.status, outcome.attempts, type(outcome.error)) == ("fatal", 2, UnroutableError)
    assert unique_name in str(outcome.error)


@pytest.mark.parametrize("reply", [b"{}", b'{"status": "done"}', b"thanks", b""])
def test_an_answer_that_is_no_streams_confirms_nothing(
    reply: bytes, nats_server: NatsServer, unique_name: str
):
    """A service that answers requests on the subject has not stored the message."""

    async def serve(*, source: Any, destination: Any, options: Any) -> None:
        async def answer(message: Any) -> None:
            await message.respond(reply)

        await destination.subscribe(unique_name, cb=answer)

    with app_on("nats", {"url": nats_server.url}, subject=unique_name) as app:
        app.publish("orders", serve).result(timeout_s=5)
        (outcome,) = app.publish("orders", "x").outcomes(timeout_s=5)
    assert (outcome.status, type(outcome.error)) == ("fatal", RejectedError)
    assert "not JetStream's" in str(outcome.error)


def test_a_full_stream_is_retried(nats_server: NatsServer, stream: str):
    """A stream that has no room may have some later."""
    name = f"{stream}-small"
    ask(nats_server, lambda js: js.add_stream(name=name, subjects=[name], max_msgs=1, discard="new"))
    with app_on("nats", {"url": nats_server.url}, subject=name) as app:
        assert statuses(app, ["fits"]) == ["ok"]
        (outcome,) = app.publish("orders", "x").outcomes(timeout_s=5)
    assert (outcome.status, outcome.attempts, type(outcome.error)) == ("fatal", 2, RejectedError)


@pytest.mark.parametrize("jetstream", [True, False])
def test_a_subject_that_is_forbidden_is_fatal(jetstream: bool):
    """What the server says beside its answers reaches the messages that it is about, and no others."""
    user = 'user: "shop", password: "p", permissions: {publish: ["Allowed.>"], subscribe: ["_INBOX.>"]}'
    with NatsServer(config=[f"authorization {{ users: [{{{user}}}] }}"]) as server:
        connection = {"url": server.url, "username": "shop", "password": "p"}
        with app_on("nats", connection, subject="Allowed.a", jetstream=jetstream) as app:
            (outcome,) = app.publish("orders", "x", subject="For.Bidden").outcomes(timeout_s=5)
            assert (outcome.status, outcome.attempts, type(outcome.error)) == ("fatal", 1, PermanentError)
            assert "For.Bidden" in str(outcome.error)
            if not jetstream:
                assert statuses(app, ["x"]) == ["ok"]


def test_tls_with_a_login(nats_tls_server: NatsServer, tls_files: TlsFiles):
    """Messages go over TLS when the authority is known."""
    connection = {"url": nats_tls_server.url, "tls": {"ca_file": str(tls_files.authority)}}
    with app_on("nats", connection, subject="s", jetstream=False) as app:
        assert statuses(app, ["x"] * 10) == ["ok"] * 10


def test_a_certificate_that_is_not_trusted(nats_tls_server: NatsServer):
    """An unknown authority is refused access."""
    ping = app_on("nats", {"url": nats_tls_server.url}).ping("orders")[0]
    assert isinstance(ping.exception, AccessError)
    assert "certificate" in str(ping.exception)


def test_tls_that_the_server_does_not_offer(nats_server: NatsServer):
    """No credentials are sent in plain text where TLS was asked for."""
    ping = app_on("nats", {"url": nats_server.url, "tls": True}).ping("orders")[0]
    assert isinstance(ping.exception, AccessError)
    assert "secure connection" in str(ping.exception)


def test_a_server_that_goes_silent_is_noticed(
    nats_server: NatsServer, fault_proxy: Callable[[Server], FaultProxy]
):
    """Pings without an answer end the connection."""
    proxy = fault_proxy(nats_server)
    connection = {
        "url": f"nats://{proxy.host}:{proxy.port}",
        "ping_interval_s": 0.1,
        "connect_timeout_s": 0.5,
    }
    with app_on("nats", connection, subject="s", jetstream=False) as app:
        assert statuses(app, ["x"]) == ["ok"]
        proxy.black_hole()
        assert until(lambda: app.status()["broker.orders"].state != "up")
        proxy.black_hole(False)
        assert statuses(app, ["x"]) == ["ok"]
