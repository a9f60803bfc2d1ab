"""Tests of the nats handler against real servers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import nats
import pytest
from broker_apps import app_on, statuses

from rambla_py.errors import AccessError, RejectedError, UnavailableError, UnroutableError
from rambla_py.testing import FaultProxy, Server, TlsFiles
from rambla_py.testing.harness import until
from rambla_py.testing.nats_server import NatsServer


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


def test_a_subject_without_a_stream_is_reported(nats_server: NatsServer, unique_name: str):
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
    assert "not a JetStream acknowledgement" in str(outcome.error)


def test_a_full_stream_is_unavailable(nats_server: NatsServer, stream: str):
    """A message for a stream without room waits, and is stored once there is some."""
    name = f"{stream}-small"
    ask(nats_server, lambda js: js.add_stream(name=name, subjects=[name], max_msgs=1, discard="new"))
    with app_on("nats", {"url": nats_server.url}, subject=name, retries=1000) as app:
        assert statuses(app, ["fits"]) == ["ok"]
        errors: list[BaseException | None] = []
        receipt = app.publish("orders", "x", callbacks={"on_failure": lambda o: errors.append(o.error)})
        assert until(lambda: errors)
        ask(nats_server, lambda js: js.purge_stream(name))
        assert receipt.result(timeout_s=10).stream == name
    assert type(errors[0]) is UnavailableError


def test_replies_below_a_prefix_of_their_own():
    """A user without a right to the default inbox is down with a hint, and works with inbox_prefix."""
    rights = 'permissions: {publish: ["$JS.API.>", "orders"], subscribe: ["replies.>"]}'
    with NatsServer(
        config=[f'authorization {{ users: [{{user: "shop", password: "p", {rights}}}] }}']
    ) as server:
        connection = {"url": server.url.replace("//", "//shop:p@")}
        ping = app_on("nats", connection, subject="orders").ping("orders")[0]
        assert isinstance(ping.exception, AccessError)
        assert "set inbox_prefix" in str(ping.exception)
        with app_on("nats", {**connection, "inbox_prefix": "replies"}, subject="orders") as app:

            async def add(*, source: Any, destination: Any, options: Any) -> None:
                await destination.jetstream().add_stream(name="orders", subjects=["orders"])

            app.publish("orders", add).result(timeout_s=5)
            assert statuses(app, ["x"]) == ["ok"]


def test_what_the_server_says_last_is_the_cause():
    """A login that is withdrawn at run time is reported as the server words it, and takes the channel down."""
    users = ['authorization { user: "shop", password: "%s" }']
    with NatsServer(config=[users[0] % "old"]) as server:
        connection = {"url": server.url.replace("//", "//shop:old@")}
        with app_on("nats", connection, subject="s", jetstream=False) as app:
            assert statuses(app, ["x"]) == ["ok"]
            conf = server.folder / "nats.conf"
            conf.write_text(conf.read_text().replace('"old"', '"new"'))
            assert server.pid
            os.kill(server.pid, signal.SIGHUP)
            assert until(lambda: app.status()["broker.orders"].state == "down")
            assert "authorization violation" in str(app.status()["broker.orders"].last_error).lower()
            app.stop(timeout_s=0.1)


@pytest.mark.parametrize("jetstream", [True, False])
def test_a_subject_that_is_forbidden(jetstream: bool):
    """Its messages wait with an access error until the right is there; others are delivered meanwhile."""
    rights = 'user: "shop", password: "p", permissions: {publish: [%s], subscribe: ["_INBOX.>"]}'
    allowed = '"Allowed.>", "$JS.API.>"'
    with NatsServer(config=[f"authorization {{ users: [{{{rights % allowed}}}] }}"]) as server:
        connection = {"url": server.url, "username": "shop", "password": "p"}
        with app_on("nats", connection, subject="Allowed.a", jetstream=jetstream, retries=0) as app:
            if jetstream:
                app.publish("orders", add_stream).result(timeout_s=5)
            receipt = app.publish("orders", "x", subject="For.Bidden")
            assert until(lambda: app.status()["broker.orders"].state == "down")
            assert "For.Bidden" in str(app.status()["broker.orders"].last_error)
            assert statuses(app, ["x"]) == ["ok"]
            conf = server.folder / "nats.conf"
            conf.write_text(conf.read_text().replace(allowed, f'{allowed}, "For.>"'))
            assert server.pid
            os.kill(server.pid, signal.SIGHUP)
            assert receipt.outcomes(timeout_s=20)[0].status == "ok"


async def add_stream(*, source: Any, destination: Any, options: Any) -> None:
    await destination.jetstream().add_stream(name="ALL", subjects=["Allowed.>", "For.>"])


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


def test_a_client_certificate_that_is_missing(tls_files: TlsFiles):
    """The server's alert takes the channel down, and the error speaks of the certificate."""
    listener = f'cert_file: "{tls_files.certificate}", key_file: "{tls_files.key}"'
    config = [f'tls {{ {listener}, ca_file: "{tls_files.authority}", verify: true }}']
    with NatsServer(config=config) as server:
        connection = {"url": f"tls://localhost:{server.port}", "tls": {"ca_file": str(tls_files.authority)}}
        with app_on("nats", connection, subject="s", jetstream=False) as app:
            app.publish("orders", "x")
            assert until(lambda: app.status()["broker.orders"].state == "down")
            assert "certificate" in str(app.status()["broker.orders"].last_error).lower()
            app.stop(timeout_s=0.1)
