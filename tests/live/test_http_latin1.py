"""Tests of header values beyond ASCII, which have a connection of their own, against a real server."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from forks import in_child
from http_app import to
from waiting import wait_until
from web_server import Reply, WebServer

from rambla_py._internal.tls import TlsTable
from rambla_py.errors import AccessError, ConnectionLostError, PermanentError, UnknownOutcomeError
from rambla_py.handler import Secret
from rambla_py.handlers._http.client import HttpClient
from rambla_py.handlers._http.exchange import Request
from rambla_py.handlers.http.settings import HttpSettings
from rambla_py.testing.servers import TlsFiles

HEADERS = {"X-City": "Zürich", "X-Kind": "ß"}
LIMIT = 1_000


def request(*, timeout_s: float = 10.0, body: bytes = b"x") -> Request:
    return Request("POST", "/in", (("x-city", "Zürich"),), body, timeout_s, latin1=True)


@contextmanager
def client(url: str, **settings: Any) -> Iterator[HttpClient]:
    opened = HttpClient(HttpSettings(url=Secret(url), **settings), max_response_bytes=LIMIT)
    try:
        yield opened
    finally:
        opened.close()


def test_text_goes_as_latin1_and_bytes_as_they_are(web_server: WebServer):
    """Each character is a byte; control characters and what Latin-1 has not are fatal."""
    values = {"Zürich": "Zürich", b"caf\xe9": "café", "東京".encode(): "東京".encode().decode("latin-1")}
    with to(web_server) as c:
        for value in values:
            assert c.send(1, headers={"X-A": value}).status == "ok"
        for value in ("a\nb", "a\x85b", b"a\nb", "東京"):
            outcome = c.send(1, headers={"X-A": value})
            assert outcome.status == "fatal"
            assert "header 'X-A'" in str(outcome.error)
    assert [seen.headers["x-a"] for seen in web_server.seen] == list(values.values())


@pytest.mark.parametrize("options", [{}, {"body_format": "array"}, {"method": "PUT"}, {"method": "DELETE"}])
def test_the_rest_of_the_request_is_the_same(web_server: WebServer, options: dict[str, str]):
    """Target, body and all other headers are those that another client would have sent."""
    web_server.answer = lambda seen: Reply(201, b'{"id":7}', {"X-Place": "Zürich", "X-A": "1"})
    with to(web_server, {"query": {"v": "2"}}, append_path="a b", **options) as c:
        plain = c.send({"n": 1}, id="m-1", headers={"X-City": "Bern"})
        outcome = c.send({"n": 1}, id="m-1", headers={"X-City": "Zürich"})
    first, second = web_server.seen
    assert (first.method, first.target, first.raw) == (second.method, second.target, second.raw)
    del first.headers["accept-encoding"]
    assert {**first.headers, "x-city": "Zürich"} == second.headers
    assert outcome.result.status == plain.result.status == 201
    assert outcome.result.json() == {"id": 7}
    assert outcome.result.headers["x-a"] == "1"


def test_an_empty_body_has_its_length(web_server: WebServer):
    """Servers answer 411 to a POST without one."""
    with to(web_server) as c:
        assert c.send(b"", headers=HEADERS).status == "ok"
    assert web_server.seen[0].headers["content-length"] == "0"


def test_tls(tls_files: TlsFiles):
    """The authority, the name and the client's certificate are those of the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.certificate, tls_files.key)
    context.load_verify_locations(tls_files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    files = {"cert_file": str(tls_files.certificate), "key_file": str(tls_files.key)}
    trusted = {"ca_file": str(tls_files.authority)}
    with WebServer(tls=context) as server:
        with to(server, {"tls": {**trusted, **files, "server_name": "localhost"}}) as c:
            assert c.send(1, headers=HEADERS).status == "ok"
        assert server.seen[0].headers["x-city"] == "Zürich"
        for tls in (
            TlsTable(**files),
            TlsTable(**trusted, **files, server_name="a.test"),
        ):
            with client(server.url, tls=tls) as c, pytest.raises(AccessError, match="certificate"):
                c.send(request())


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy(web_server: WebServer, tls_web_server: WebServer, tls_files: TlsFiles, secure: bool):
    """It is asked for the whole URL, or for a tunnel, with its login."""
    server = tls_web_server if secure else web_server
    tls = TlsTable(ca_file=str(tls_files.authority)) if secure else False
    with WebServer() as proxy:
        proxy.login = ("me", "pw") if secure else None
        through = f"{proxy.host}:{proxy.port}"
        with client(server.url, tls=tls, proxy=Secret(f"http://me:pw@{through}")) as c:
            assert c.send(request()).status == 200
        away = Secret("http://me:pw@127.0.0.1:1")
        refused = pytest.raises(ConnectionLostError, match=r"through the proxy 127\.0\.0\.1:1")
        with client(server.url, tls=tls, proxy=away) as c, refused:
            c.send(request())
        if secure:
            other = Secret(f"http://me:no@{through}")
            with client(server.url, tls=tls, proxy=other) as c, pytest.raises(AccessError, match="the proxy"):
                c.send(request())
            assert server.seen[0].headers["x-city"] == "Zürich"
            assert "proxy-authorization" not in server.seen[0].headers
            assert "proxy-authorization" in proxy.seen[0].headers
        else:
            assert proxy.seen[0].target == f"{server.url}/in"
            assert proxy.seen[0].headers["x-city"] == "Zürich"
            assert proxy.seen[0].headers["proxy-authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    "settings", [{"http_version": "2"}, {"proxy": Secret("https://127.0.0.1:1"), "tls": True}]
)
def test_where_there_is_no_way_the_message_is_fatal(tls_web_server: WebServer, settings: dict[str, Any]):
    """HTTP/2 alone, and TLS within TLS."""
    with client(tls_web_server.url, **settings) as c, pytest.raises(PermanentError, match="beyond ASCII"):
        c.send(request())


@pytest.mark.parametrize(
    ("reply", "words"),
    [(Reply(cut=True), "may have been read"), (Reply(silent=True), "no answer within 0.2 s")],
)
def test_no_answer(web_server: WebServer, reply: Reply, words: str):
    """The request may have been read; only a time-out says nothing about the server."""
    web_server.answer = lambda seen: reply
    with client(web_server.url) as c, pytest.raises(UnknownOutcomeError, match=words) as caught:
        c.send(request(timeout_s=0.2))
    assert caught.value.connection_lost is reply.cut


def test_a_server_that_is_gone():
    """Nothing was sent: the message waits."""
    with WebServer() as server:
        opened = HttpClient(HttpSettings(url=Secret(server.url)), max_response_bytes=LIMIT)
        assert opened.send(request()).status == 200
    with pytest.raises(ConnectionLostError, match="cannot connect to") as caught:
        opened.send(request())
    assert not isinstance(caught.value, UnknownOutcomeError)
    opened.close()


@pytest.mark.parametrize(
    ("size", "short", "whole"), [(LIMIT, 0, True), (LIMIT + 1, 0, False), (10, 5, False)]
)
def test_the_body_of_the_answer_is_bounded(web_server: WebServer, size: int, short: int, whole: bool):
    """One that is longer, or breaks off, does not hide the status."""
    web_server.answer = lambda seen: Reply(body=b"y" * size, short=short)
    with client(web_server.url) as c:
        answer = c.send(request())
    assert (answer.status, answer.body, answer.whole) == (200, b"y" * min(size, LIMIT), whole)


def test_a_close_ends_requests_in_flight(web_server: WebServer):
    """They have no answer; later ones are not sent."""
    web_server.answer = lambda seen: Reply(silent=True)
    errors: list[Exception] = []

    def send() -> None:
        try:
            opened.send(request())
        except Exception as error:
            errors.append(error)

    with client(web_server.url) as opened:
        thread = threading.Thread(target=send)
        thread.start()
        wait_until(lambda: web_server.seen)
        opened.close()
        thread.join(timeout=5)
        assert isinstance(errors[0], UnknownOutcomeError)
        with pytest.raises(ConnectionLostError, match="was closed"):
            opened.send(request())


def test_a_forked_child_leaves_its_parents_request_alone(web_server: WebServer):
    """The child may close what it inherited; the parent gets its answer."""
    closed = threading.Event()

    def answer(seen: object) -> Reply:
        closed.wait(10)
        return Reply(201)

    web_server.answer = answer
    with client(web_server.url) as opened, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(opened.send, request())
        wait_until(lambda: web_server.now == 1)
        assert in_child(opened.close) == 0
        closed.set()
        assert sent.result(timeout=10).status == 201
