"""Tests of how the redis handler connects to real servers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import redis
from redis_worker import Worker, refusal, tls_table_of, worker

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
)
from rambla_py.handler import Secret
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.server_process import free_port
from rambla_py.testing.servers import RedisServer, Server, TlsFiles

Proxies = Callable[[Server], FaultProxy]


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as made:
        yield made


def test_a_url(redis_server: RedisServer, client: redis.Redis, unique_name: str):
    """A URL with a database connects to that database."""
    url = Secret(f"redis://{redis_server.host}:{redis_server.port}/2")
    made = Worker({"url": url}, {})
    with closing(made), redis.Redis(port=redis_server.port, db=2) as second:
        assert made.publish([{unique_name: "v"}]) == ["OK"]
        assert second.get(unique_name) == b"v"
    assert client.get(unique_name) is None


def test_a_unix_socket():
    """A unix URL connects through the socket's file."""
    with RedisServer(config=["unixsocket redis.sock"]) as server:
        made = Worker({"url": Secret(f"unix://{server.folder}/redis.sock")}, {"command": "rpush"})
        with closing(made):
            assert made.publish(["x"]) == [1]


def test_unreachable():
    """Where nothing listens, the error names the address and is a plain loss."""
    port = free_port()
    error = refusal(host="127.0.0.1", port=port)
    assert type(error) is ConnectionLostError
    assert f"127.0.0.1:{port}" in str(error)


def test_wrong_password(redis_tls_server: RedisServer, tls_files: TlsFiles):
    """A wrong password is an AccessError, and shows nowhere in it."""
    error = refusal(
        host="127.0.0.1",
        port=redis_tls_server.port,
        password=Secret("canary"),
        tls=tls_table_of(tls_files),
    )
    assert type(error) is AccessError
    assert "WRONGPASS" in str(error)
    assert "canary" not in f"{error!r}{error.__cause__!r}{error.__context__!r}"


def test_missing_password(redis_tls_server: RedisServer, tls_files: TlsFiles):
    """No password where one is needed is an AccessError."""
    error = refusal(host="127.0.0.1", port=redis_tls_server.port, tls=tls_table_of(tls_files))
    assert type(error) is AccessError
    assert "NOAUTH" in str(error)


def test_a_database_that_is_not_there(redis_server: RedisServer):
    """A database number that the server does not have needs an operator."""
    error = refusal(host=redis_server.host, port=redis_server.port, database=99)
    assert type(error) is AccessError
    assert "DB index" in str(error)


def testtls_table_of(redis_tls_server: RedisServer, tls_files: TlsFiles, unique_name: str):
    """Messages go over TLS when the authority is known, in batches of several records."""
    url = Secret(f"rediss://:s3cret@localhost:{redis_tls_server.port}/0")
    made = Worker({"url": url, "tls": tls_table_of(tls_files)}, {"command": "rpush", "list": unique_name})
    with closing(made):
        assert made.publish(["x" * 1000] * 300) == list(range(1, 301))
        assert made.publish(["y"]) == [301]


def test_tls_with_an_unknown_authority(redis_tls_server: RedisServer):
    """A certificate of an authority that is not trusted is an AccessError."""
    error = refusal(host="127.0.0.1", port=redis_tls_server.port, password=Secret("s3cret"), tls=True)
    assert type(error) is AccessError
    assert "certificate" in str(error)


def test_tls_with_the_wrong_name(redis_tls_server: RedisServer, tls_files: TlsFiles):
    """A certificate for another name is an AccessError."""
    error = refusal(
        host="127.0.0.1",
        port=redis_tls_server.port,
        tls=tls_table_of(tls_files, server_name="elsewhere.invalid"),
    )
    assert type(error) is AccessError
    assert "elsewhere.invalid" in str(error)


def test_tls_without_verification(redis_tls_server: RedisServer):
    """verify = false takes any certificate."""
    settings = {"password": Secret("s3cret"), "tls": tls_table_of(None, verify=False)}
    with worker(redis_tls_server, settings, command="publish") as w:
        assert w.publish(["x"]) == [0]


def test_tls_with_a_file_that_is_not_there():
    """A missing authority file is an AccessError that says so."""
    error = refusal(host="127.0.0.1", tls=tls_table_of(None, ca_file="/nowhere/ca.pem"))
    assert type(error) is AccessError
    assert "tls" in str(error)


def test_tls_with_a_client_certificate_that_is_wanted(tls_files: TlsFiles):
    """A server that wants a client's certificate refuses those without, and takes those with one."""
    plain = tls_table_of(tls_files)
    owner = tls_table_of(tls_files, cert_file=str(tls_files.certificate), key_file=str(tls_files.key))
    with RedisServer(tls=tls_files) as server:
        where = {"host": server.host, "port": server.port}
        with worker(server, {"tls": owner}, command="publish") as w:
            w.handler.destination(w.connection).config_set("tls-auth-clients", "yes")
        error = refusal(**where, tls=plain)
        with worker(server, {"tls": owner}, command="publish") as w:
            assert w.publish(["x"]) == [0]
    assert type(error) is AccessError


def test_something_else_than_redis():
    """A server of another protocol is refused, with the reason."""
    with _listener(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        error = refusal(host="127.0.0.1", port=port)
    assert "not Redis" in str(error)


def test_a_server_that_never_answers_the_handshake():
    """A server that accepts and says nothing is given up after connect_timeout_s."""
    with _listener(b"") as port:
        begun = time.monotonic()
        error = refusal(host="127.0.0.1", port=port, connect_timeout_s=0.3)
    assert type(error) is ConnectionLostError
    assert "connect_timeout_s = 0.3" in str(error)
    assert time.monotonic() - begun < 5


@contextmanager
def _listener(answer: bytes) -> Iterator[int]:
    """Run a server that sends one answer to whatever it is asked, and keeps quiet."""
    held: list[socket.socket] = []

    def serve() -> None:
        accepted, _ = listening.accept()
        held.append(accepted)
        accepted.recv(1024)
        accepted.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()
    for accepted in held:
        accepted.close()
