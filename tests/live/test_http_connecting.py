"""Tests of how the http handler connects: TLS, proxies, pings, HTTP/2."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from http2_server import Http2Server
from http_app import channel, refusal, to
from waiting import wait_until
from web_server import Reply, WebServer

from rambla_py._internal.tls import TlsTable
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    UnknownOutcomeError,
)
from rambla_py.handler import Secret
from rambla_py.handlers._http.client import HttpClient
from rambla_py.handlers._http.exchange import Request
from rambla_py.handlers.http.settings import HttpSettings
from rambla_py.testing.servers import TlsFiles


def test_tls(tls_web_server: WebServer, tls_files: TlsFiles):
    """A private authority is trusted when it is named."""
    with to(tls_web_server, {"tls": {"ca_file": str(tls_files.authority)}}) as c:
        assert c.send(1).status == "ok"


def test_tls_server_name(tls_web_server: WebServer, tls_files: TlsFiles):
    """A name that the certificate has is enough, whatever the address; the Host header stays the address."""
    tls = {"ca_file": str(tls_files.authority), "server_name": "localhost"}
    with to(tls_web_server, {"tls": tls}) as c:
        assert c.send(1).status == "ok"
    assert tls_web_server.seen[0].headers["host"] == f"{tls_web_server.host}:{tls_web_server.port}"


def test_tls_wrong_name(tls_web_server: WebServer, tls_files: TlsFiles):
    """A certificate for another name is refused as lost access."""
    tls = _tls(tls_files, server_name="elsewhere.test")
    error = refusal(scheme="https", host=tls_web_server.host, port=tls_web_server.port, tls=tls)
    assert isinstance(error, AccessError)
    assert "elsewhere.test" in str(error)


def test_tls_unknown_authority(tls_web_server: WebServer):
    """A certificate of an unknown authority is an access error."""
    error = refusal(url=Secret(tls_web_server.url))
    assert isinstance(error, AccessError)
    assert "UnknownIssuer" in str(error)


def test_tls_files_that_are_none(tmp_path: Any, tls_files: TlsFiles):
    """Files without a certificate are an access error with the reason."""
    (tmp_path / "ca.pem").write_text("nonsense")
    for names in ({"ca_file": str(tmp_path / "ca.pem")}, {"ca_file": str(tmp_path / "none.pem")}):
        error = refusal(host="127.0.0.1", scheme="https", tls=_tls(tls_files, **names))
        assert isinstance(error, AccessError)
        assert "cannot read the files" in str(error)


def test_tls_client_certificate(tls_files: TlsFiles):
    """A server that wants a certificate gets ours; without one it refuses, which is lost access."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.certificate, tls_files.key)
    context.load_verify_locations(tls_files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with WebServer(tls=context) as web_server:
        files = {"cert_file": str(tls_files.certificate), "key_file": str(tls_files.key)}
        with to(web_server, {"tls": {"ca_file": str(tls_files.authority), **files}}) as c:
            assert c.send(1).status == "ok"
        assert "connection" in str(refusal(url=Secret(web_server.url), tls=_tls(tls_files)))


def _tls(tls_files: TlsFiles, **fields: Any) -> TlsTable:
    return TlsTable(**{"ca_file": str(tls_files.authority), **fields})


def test_a_proxy(web_server: WebServer):
    """Requests go through the proxy, which is asked for the whole URL."""
    with (
        WebServer() as proxy,
        channel(
            "http", {"url": "http://shop.test/in", "proxy": f"http://me:pw@{proxy.host}:{proxy.port}"}
        ) as c,
    ):
        assert c.send({"n": 1}).status == "ok"
        assert proxy.seen[0].target == "http://shop.test/in"
        assert proxy.seen[0].headers["proxy-authorization"].startswith("Basic ")


def test_a_proxy_for_tls(tls_web_server: WebServer, tls_files: TlsFiles):
    """TLS goes through a tunnel; a proxy that refuses our credentials is lost access."""
    tls = {"ca_file": str(tls_files.authority)}
    with WebServer() as proxy:
        proxy.login = ("me", "pw")
        with to(tls_web_server, {"tls": tls, "proxy": f"http://me:pw@{proxy.host}:{proxy.port}"}) as c:
            assert c.send({"n": 1}).status == "ok"
        assert {seen.target for seen in proxy.seen} == {f"{tls_web_server.host}:{tls_web_server.port}"}
        wrong = Secret(f"http://me:wr0ng@{proxy.host}:{proxy.port}")
        error = refusal(url=Secret(tls_web_server.url), tls=_tls(tls_files), proxy=wrong)
    assert isinstance(error, AccessError), error
    assert "wr0ng" not in str(error)
    assert [seen.body for seen in tls_web_server.seen] == [b'{"n":1}']


def test_a_proxy_that_is_not_there():
    """The error names the proxy too, without its password: it is what has to be looked at."""
    error = refusal(url=Secret("http://shop.test/in"), proxy=Secret("http://me:hunter2@127.0.0.1:1"))
    assert "shop.test through the proxy 127.0.0.1:1" in str(error)
    assert "hunter2" not in str(error)


def test_the_environments_proxy_is_not_read(web_server: WebServer, monkeypatch: pytest.MonkeyPatch):
    """What is not in the configuration does not send messages elsewhere."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with to(web_server) as c:
        assert c.send(1).status == "ok"


def test_a_name_with_several_addresses(web_server: WebServer):
    """The first address that answers is taken, and stays; the name stays in the Host header."""
    with channel("httpc", {"url": f"http://localhost:{web_server.port}/in"}) as c:
        assert c.send(1).status == "ok"
    assert web_server.seen[0].headers["host"] == f"localhost:{web_server.port}"


def test_the_server_is_asked_before_messages_are_sent(web_server: WebServer):
    """Each connection begins with a HEAD; its answer does not matter, unless it is about credentials."""
    web_server.on_ping = lambda seen: Reply(404)
    with to(web_server) as c:
        assert c.send(1).status == "ok"
        assert [seen.path for seen in web_server.pings] == ["/in"]
    with to(web_server, {"ping_method": "none"}) as c:
        assert c.send(1).status == "ok"
    assert len(web_server.pings) == 1


def test_ping_says_that_a_server_is_out_of_order(web_server: WebServer):
    """503 to a ping is a server that does not work; 405 is one that does."""
    for status, ok in ((503, False), (405, True)):
        web_server.on_ping = lambda seen, status=status: Reply(status)
        with to(web_server) as c:
            assert [ping.ok for ping in c.app.ping()] == [ok]


def test_destination(web_server: WebServer):
    """A callable payload is given a client of pyreqwest."""

    def call(source: Any, destination: Any, options: Any) -> int:
        with destination.get(f"{web_server.url}/read").build_streamed() as response:
            return int(response.status)

    with to(web_server) as c:
        assert c.send(call).result == 200


_FORKING = """
import os, sys
import rambla_py as rambla

def publish(app, payload):
    return app.publish("to", payload).outcomes(timeout_s=10)[0].status

http = {"connections": {"main": {"url": sys.argv[1]}}, "channels": {"to": {}}}
with rambla.Rambla({"http": http}) as app:
    said = [publish(app, "parent before")]
    child = os.fork()
    if child == 0:
        os._exit(0 if publish(app, "child") == "ok" else 1)
    said.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    said.append(publish(app, "parent after"))
print(said)
"""


def test_a_forked_child_has_a_client_of_its_own(web_server: WebServer):
    """Parent and child both deliver after a fork, each over connections of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _FORKING, web_server.url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout.strip() == "['ok', 0, 'ok']", done.stderr
    assert [seen.body for seen in web_server.seen] == [b"parent before", b"child", b"parent after"]


def test_closing_wakes_who_waits(web_server: WebServer):
    """An app that is stopped does not wait for answers beyond its time."""
    web_server.answer = lambda seen: Reply(silent=True)
    with to(web_server) as c:
        receipt = c.app.publish("to", 1)
        wait_until(lambda: web_server.connections > 0 and c.status().in_flight > 0)
        began = time.monotonic()
        c.app.stop(timeout_s=0.1)
        assert time.monotonic() - began < 5
        assert receipt.outcomes(timeout_s=5)[0].status in ("dropped", "unknown")


def test_what_is_under_way_at_a_close_is_unknown(web_server: WebServer):
    """It may have been read; what comes after the close was never sent."""
    web_server.answer = lambda seen: Reply(silent=True)
    client = HttpClient(HttpSettings(url=Secret(web_server.url)), max_response_bytes=100)
    request = Request("POST", "/in", (), b"1", 10.0)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(client.send, request)
        wait_until(lambda: len(web_server.seen) == 1)
        client.close()
        assert type(sent.exception(timeout=5)) is UnknownOutcomeError
    with pytest.raises(ConnectionLostError, match="the connection was closed"):
        client.send(request)


def test_a_socket_that_only_listens():
    """A server that accepts and never answers is bounded by connect_timeout_s."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        error = refusal(host="127.0.0.1", port=listener.getsockname()[1], connect_timeout_s=0.3)
    assert time.monotonic() - began < 3
    assert "no answer within 0.3 s" in str(error)


@pytest.mark.parametrize("secure", [True, False])
def test_http_2(tls_files: TlsFiles, secure: bool):
    """Over TLS the server chooses HTTP/2, without TLS it is asked for; many requests share one connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if secure else None
    connection: dict[str, Any] = {"http_version": "2"}
    if context is not None:
        context.load_cert_chain(tls_files.certificate, tls_files.key)
        connection = {"scheme": "https", "tls": {"ca_file": str(tls_files.authority)}}
    with Http2Server(tls=context, delay_s=0.05) as web_server:
        where = {"host": web_server.host, "port": web_server.port, "ping_method": "none"}
        with channel("http", {**where, **connection}) as c:
            # Until the server has chosen, each request at the same time would have a connection of its own.
            assert c.send("").status == "ok"
            outcomes = c.send_many(["x" * n for n in range(1, 100)])
        assert {outcome.status for outcome in outcomes} == {"ok"}
        assert sorted(web_server.bodies, key=len) == [b"x" * n for n in range(100)]
        assert web_server.most > 4
        assert web_server.connections < web_server.most
