"""Tests of the proxy that breaks connections, against a plain echo server."""

from __future__ import annotations

import gc
import queue
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from rambla_py.testing.faults import Direction, FaultProxy
from rambla_py.testing.processes import deadline
from rambla_py.testing.secured_server import TlsFiles

TIMEOUT_S = 5.0


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it is sent, until the client's end."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(65_536):
                self.request.sendall(data)
        except ConnectionError:
            return


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@pytest.fixture
def echo_address() -> Iterator[tuple[str, int]]:
    with EchoServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server.server_address
        server.shutdown()


@pytest.fixture
def proxy(echo_address: tuple[str, int]) -> Iterator[FaultProxy]:
    with FaultProxy(*echo_address) as proxy:
        yield proxy


@pytest.fixture
def tls_proxy(echo_address: tuple[str, int], tls_files: TlsFiles) -> Iterator[FaultProxy]:
    with FaultProxy(*echo_address, tls=tls_files) as proxy:
        yield proxy


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(proxy.address, timeout=TIMEOUT_S)


def echoed(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    return received(client, len(data))


def received(client: socket.socket, size: int) -> bytes:
    """Return so many bytes, or fewer when the other side ends."""
    got = b""
    while len(got) < size and (piece := client.recv(size - len(got))):
        got += piece
    return got


def wait_until(holds: Callable[[], bool]) -> None:
    assert any(holds() for _ in deadline(TIMEOUT_S, 0.005))


def test_passes_on_both_ways(proxy: FaultProxy) -> None:
    """Without a fault, what is sent arrives, and is counted both ways."""
    payload = bytes(range(256)) * 4_000
    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(payload,))
        sender.start()
        assert received(client, len(payload)) == payload
        sender.join()
    assert (proxy.connections, proxy.bytes_up, proxy.bytes_down) == (1, len(payload), len(payload))


def test_client_end_reaches_server(proxy: FaultProxy) -> None:
    """A client that sends no more still gets what the server answers, and then the server's end."""
    with connect(proxy) as client:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert received(client, 100) == b"last words"


def test_cut_ends_connections_in_good_order(proxy: FaultProxy) -> None:
    """A cut is an end of stream for every client, and is counted; the next connection works."""
    with connect(proxy) as first, connect(proxy) as second:
        assert echoed(first, b"a") + echoed(second, b"b") == b"ab"
        proxy.cut()
        assert (first.recv(1), second.recv(1)) == (b"", b"")
    with connect(proxy) as third:
        assert echoed(third, b"c") == b"c"
    assert (proxy.connections, proxy.cuts, proxy.resets) == (3, 2, 0)


def test_cut_counts_a_connection_once(proxy: FaultProxy) -> None:
    """A second cut finds nothing to end."""
    with connect(proxy) as client:
        echoed(client, b"a")
        proxy.cut()
        proxy.cut()
        assert (proxy.cuts, proxy.open) == (1, 0)


def test_reset_is_a_reset(proxy: FaultProxy) -> None:
    """A reset is a ``ConnectionResetError`` for the client, and is counted."""
    with connect(proxy) as client:
        echoed(client, b"a")
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert (proxy.resets, proxy.cuts) == (1, 0)


def test_client_reset_reaches_server() -> None:
    """A client that breaks its connection breaks the server's side too."""
    with socket.create_server(("127.0.0.1", 0)) as server, FaultProxy(*server.getsockname()) as proxy:
        client = connect(proxy)
        back, _ = server.accept()
        with back:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            back.settimeout(TIMEOUT_S)
            with pytest.raises(ConnectionResetError):
                back.recv(1)


def test_refuse_turns_new_clients_away(proxy: FaultProxy) -> None:
    """Refusing turns new clients away, keeps the open ones, and ends with ``accept`` on the same port."""
    with connect(proxy) as early:
        echoed(early, b"a")
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert echoed(early, b"b") == b"b"
        proxy.accept()
        with connect(proxy) as late:
            assert echoed(late, b"c") == b"c"


def test_delay_adds_latency(proxy: FaultProxy) -> None:
    """A round trip takes twice the delay at least, and no time any more once it is lifted."""
    with connect(proxy) as client:
        proxy.delay(0.1)
        start = time.monotonic()
        echoed(client, b"a")
        assert time.monotonic() - start >= 0.2
        proxy.delay(0)
        start = time.monotonic()
        echoed(client, b"a")
        assert time.monotonic() - start < 0.1


def test_delayed_pieces_wait_side_by_side(proxy: FaultProxy) -> None:
    """A megabyte, which is many pieces, is late by one delay each way, not by one for each piece."""
    payload = b"x" * 1_000_000
    with connect(proxy) as client:
        proxy.delay(0.2)
        start = time.monotonic()
        sender = threading.Thread(target=client.sendall, args=(payload,))
        sender.start()
        assert received(client, len(payload)) == payload
        assert 0.4 <= time.monotonic() - start < 2.0
        sender.join()


def test_throttle_limits_the_rate(proxy: FaultProxy) -> None:
    """At 100,000 bytes a second, 20,000 bytes take a fifth of a second."""
    with connect(proxy) as client:
        proxy.throttle(100_000)
        start = time.monotonic()
        assert len(echoed(client, b"x" * 20_000)) == 20_000
        assert time.monotonic() - start >= 0.2


def test_half_close_ends_one_direction(proxy: FaultProxy) -> None:
    """After a half-close the client reads the end, and what it sends is still passed on."""
    with connect(proxy) as client:
        echoed(client, b"a")
        proxy.half_close()
        assert client.recv(1) == b""
        up = proxy.bytes_up
        client.sendall(b"still")
        client.shutdown(socket.SHUT_WR)
        wait_until(lambda: proxy.bytes_up == up + 5)
    assert proxy.half_closes == 1


def test_black_hole_swallows(proxy: FaultProxy) -> None:
    """A black hole accepts, answers nothing and counts what it took; afterwards new connections work."""
    proxy.black_hole()
    with connect(proxy) as client:
        client.sendall(b"hello")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert (proxy.swallowed, proxy.bytes_up) == (5, 0)
    proxy.black_hole(False)
    with connect(proxy) as client:
        assert echoed(client, b"a") == b"a"


def test_black_hole_takes_open_connections(proxy: FaultProxy) -> None:
    """A connection that was open before hears nothing any more, and is heard no more."""
    with connect(proxy) as client:
        echoed(client, b"a")
        proxy.black_hole()
        client.sendall(b"hello")
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)
    assert proxy.bytes_up == 1


def test_black_hole_hides_the_end_of_the_server() -> None:
    """A server that ends inside a black hole ends unheard."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        FaultProxy(*server.getsockname()) as proxy,
        connect(proxy) as client,
    ):
        back, _ = server.accept()
        proxy.black_hole()
        back.close()
        client.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_black_hole_needs_no_server() -> None:
    """A black hole accepts although nothing listens behind it."""
    with FaultProxy("127.0.0.1", 1) as proxy:
        proxy.black_hole()
        with connect(proxy) as client:
            client.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.recv(1)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_cut_after_lets_exactly_so_much_through(proxy: FaultProxy, direction: Direction) -> None:
    """The connection is cut after exactly so many bytes of that direction, and only once."""
    with connect(proxy) as client:
        echoed(client, b"before")
        proxy.cut_after(3, direction=direction)
        passed = {"up": proxy.bytes_up, "down": proxy.bytes_down}[direction]
        client.sendall(b"abcdef")
        got = received(client, 6)
        assert b"abc".startswith(got)
        assert got == b"abc" or direction == "up"
    assert {"up": proxy.bytes_up, "down": proxy.bytes_down}[direction] == passed + 3
    assert proxy.cuts == 1
    with connect(proxy) as client:
        assert echoed(client, b"abcdef") == b"abcdef"


def test_a_cut_may_be_followed_by_something_worse(proxy: FaultProxy) -> None:
    """What is to follow a cut is called once, when the connection is cut already."""
    cuts: queue.Queue[int] = queue.Queue()
    with connect(proxy) as client:
        proxy.cut_after(3, then=lambda: cuts.put(proxy.cuts))
        client.sendall(b"abcdef")
        assert cuts.get(timeout=5) == 1
    with connect(proxy) as client:
        proxy.cut_after(3)
        client.sendall(b"abcdef")
        assert received(client, 6) in (b"", b"a", b"ab", b"abc")
    assert cuts.empty()


def test_server_that_is_away_ends_the_client() -> None:
    """When nothing listens behind the proxy, the client is let in and put out."""
    with FaultProxy("127.0.0.1", 1) as proxy, connect(proxy) as client:
        assert client.recv(1) == b""


def test_close_breaks_what_is_open(proxy: FaultProxy) -> None:
    """Closing the proxy ends its clients, frees its port, and may be done twice."""
    with connect(proxy) as client:
        echoed(client, b"a")
        proxy.close()
        proxy.close()
        client.settimeout(TIMEOUT_S)
        with suppress(ConnectionResetError):
            assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


def test_says_when_it_does_not_run() -> None:
    """A fault asked of a proxy that was not started is an error, not a wait without end."""
    with pytest.raises(RuntimeError, match="call start"):
        FaultProxy("127.0.0.1", 1).cut()


def test_a_client_without_tls_harms_no_other(tls_proxy: FaultProxy, tls_files: TlsFiles) -> None:
    """Who says nothing, or something else than TLS, is never passed on, and does not keep the proxy open."""
    context = ssl.create_default_context(cafile=tls_files.authority)
    with connect(tls_proxy), connect(tls_proxy) as rude:
        rude.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with suppress(ConnectionResetError):
            assert received(rude, 1_000)[:1] in (b"", b"\x15")  # an alert of TLS, at most
        with connect(tls_proxy) as plain, context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"a")
            assert client.recv(1) == b"a"
        assert tls_proxy.connections == 1
        tls_proxy.close()
    gc.collect()  # a connection left open would be warned about now


def test_tls_before_a_server_without(tls_proxy: FaultProxy, tls_files: TlsFiles) -> None:
    """It shows the certificate it was given, passes on what comes in it, and survives whom it does not suit."""
    context = ssl.create_default_context(cafile=str(tls_files.authority))
    with connect(tls_proxy) as raw, pytest.raises(ssl.SSLCertVerificationError):
        context.wrap_socket(raw, server_hostname="elsewhere.invalid")
    with connect(tls_proxy) as raw, context.wrap_socket(raw, server_hostname="localhost") as client:
        assert echoed(client, b"x" * 200_000) == b"x" * 200_000
        assert (tls_proxy.bytes_up, tls_proxy.bytes_down) == (200_000, 200_000)
        tls_proxy.cut()
        assert client.recv(1) == b""
    assert (tls_proxy.connections, tls_proxy.cuts) == (1, 1)
