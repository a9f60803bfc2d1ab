"""Tests of the mqtt handler against brokers that answer what real ones seldom do."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from broker_apps import app_on, statuses

from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.testing import TlsFiles
from rambla_py.testing.harness import until
from rambla_py.testing.mosquitto import MosquittoServer

CONNACK = b"\x20\x03\x00\x00\x00"
QUOTA_EXCEEDED = 0x97
Answer = Callable[[int, bytes], bytes]


def _packet(stream: Any) -> tuple[int, bytes]:
    """Read one packet: its type, and its body."""
    head = stream.read(1)
    if not head:
        return 0, b""
    size, shift = 0, 0
    while True:
        (digit,) = stream.read(1)
        size |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return head[0] >> 4, stream.read(size)


@contextmanager
def broker(answer: Answer) -> Iterator[dict[str, Any]]:
    """Run a broker that answers each packet with what ``answer(kind, body)`` returns."""

    class Peer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            stream = self.request.makefile("rb")
            while (packet := _packet(stream))[0]:
                self.request.sendall(answer(*packet))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Peer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"host": "127.0.0.1", "port": server.server_address[1]}
        server.shutdown()


def puback(body: bytes, code: int, *, kind: int = 0x40) -> bytes:
    """Return a PUBACK, or a packet of another kind, for a PUBLISH packet's body."""
    topic = int.from_bytes(body[:2], "big")
    return bytes([kind, 3]) + body[2 + topic : 4 + topic] + bytes([code])


@pytest.mark.parametrize("code", [0, 1, 5])
def test_a_broker_of_an_older_protocol_is_down(code: int):
    """A CONNACK of MQTT 3.1.1 needs an operator, whatever it says, and the error names the version."""
    with broker(lambda kind, body: b"\x20\x02\x00" + bytes([code])) as connection:
        ping = app_on("mqtt", connection, topic="t").ping("orders")[0]
    assert isinstance(ping.exception, AccessError)
    assert "MQTT 5 is required" in str(ping.exception)


@pytest.mark.parametrize("qos", [1, 2])
def test_a_reason_code_that_paho_does_not_know(qos: int, caplog: pytest.LogCaptureFixture):
    """It is the failed attempt of that message, which is retried on the same connection."""
    codes = iter([0xEE])

    def answer(kind: int, body: bytes) -> bytes:
        if kind == 3:
            return puback(body, next(codes, 0), kind=0x40 if qos == 1 else 0x50)
        if kind == 6:  # PUBREL
            return b"\x70\x02" + body[:2]
        return CONNACK if kind == 1 else b""

    with broker(answer) as connection, app_on("mqtt", connection, topic="t", qos=qos) as app:
        outcome = app.publish("orders", "x").outcomes(timeout_s=20)[0]
        assert (outcome.status, outcome.attempts) == ("ok", 2)
        assert app.status()["broker.orders"].lost_connections == 0
    assert "unknown reason code (0xee)" in caplog.text


def test_a_packet_that_ends_the_thread_of_paho(caplog: pytest.LogCaptureFixture):
    """The connection is lost, with what the thread raised as the cause, and the next one delivers."""
    disconnects = iter([b"\xe0\x02\xee\x00"])

    def answer(kind: int, body: bytes) -> bytes:
        if kind == 3:
            return next(disconnects, puback(body, 0))
        return CONNACK if kind == 1 else b""

    with broker(answer) as connection, app_on("mqtt", connection, topic="t") as app:
        assert statuses(app, ["x"]) == ["ok"]
        assert app.status()["broker.orders"].lost_connections == 1
    assert "MalformedPacket" in caplog.text


def test_a_quota_that_is_exceeded_for_a_while():
    """The message waits, however often the broker refuses it, and is delivered once."""
    refused, taken = [], []

    def answer(kind: int, body: bytes) -> bytes:
        if kind != 3:
            return CONNACK if kind == 1 else b""
        if not refused:
            refused.append(body)
            return puback(body, QUOTA_EXCEEDED)
        taken.append(body)
        return puback(body, 0)

    with broker(answer) as connection, app_on("mqtt", connection, topic="t") as app:
        assert statuses(app, ["x"]) == ["ok"]
    assert (len(refused), len(taken)) == (1, 1)


def test_a_broker_that_closes_at_once():
    """No answer to CONNECT is a lost connection, with a hint about the version."""
    with MosquittoServer() as server:
        address = {"host": server.host, "port": server.port}
        server.stop()
        ping = app_on("mqtt", address).ping("orders")[0]
    assert type(ping.exception) is ConnectionLostError


def test_connections_end_with_a_disconnect():
    """Without one, a broker reports the client as dead."""
    kinds: list[int] = []

    def answer(kind: int, body: bytes) -> bytes:
        kinds.append(kind)
        return CONNACK if kind == 1 else b"\xb0\x04" + body[:2] + b"\x00\x11" if kind == 10 else b""

    with broker(answer) as connection:
        app = app_on("mqtt", connection, topic="t")
        assert [app.ping("orders")[0].exception for _ in range(10)] == [None] * 10
        assert until(lambda: kinds.count(14) == 10)


def test_a_client_certificate_that_is_missing(tls_files: TlsFiles):
    """The broker's alert comes after the handshake, and takes the channel down."""
    required = [f"cafile {tls_files.authority}", "require_certificate true"]
    with MosquittoServer(tls=tls_files, config=required) as server:
        connection = {"host": "localhost", "port": server.port, "tls": {"ca_file": str(tls_files.authority)}}
        with app_on("mqtt", connection, topic="t") as app:
            app.publish("orders", "x")
            assert until(lambda: app.status()["broker.orders"].state == "down")
            assert "certificate" in str(app.status()["broker.orders"].last_error).lower()
            app.stop(timeout_s=0.1)
