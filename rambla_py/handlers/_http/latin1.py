"""Requests whose headers have characters beyond ASCII, which pyreqwest can only send as UTF-8.

RFC 9110 (5.5) names Latin-1 for what is not ASCII, and most servers read it as that; so the standard
library's client sends it. Such requests are rare. Each has a connection of its own, because one that is kept
may have been closed by the server just before, and nothing tells that from a request that it has read.
"""

from __future__ import annotations

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from rambla_py._internal.tls import TlsTable, client_context, tls_table
from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PermanentError,
    UnknownOutcomeError,
)
from rambla_py.handler import secret_text
from rambla_py.handlers._http.address import Endpoint, endpoint_of
from rambla_py.handlers._http.exchange import Answer, Request, joined_headers
from rambla_py.handlers._http.settings import WebSettings

if TYPE_CHECKING:
    import http.client

__all__ = ["Latin1Client"]


class _Hop(NamedTuple):
    """The next hop towards a server: where to connect, and what targets begin with.

    ``tls_name`` is the name in the server's certificate, ``tunnel`` the server that a proxy is to connect to.
    ``login`` is for the proxy alone: a tunnel does not carry it.
    """

    host: str
    port: int
    tls_name: str | None
    origin: str = ""
    login: Mapping[str, str] = MappingProxyType({})
    tunnel: Endpoint | None = None


_REFUSED = ("CERTIFICATE", "UNKNOWN_CA")
"""Words in the reasons of OpenSSL for a certificate that one side does not take."""

_LONGEST_WAIT_S = 1e6
_PROXY_LOGIN = "Tunnel connection failed: 407"


class Latin1Client:
    """Sends requests to one server; ``send`` may be called by many threads at a time.

    ``address`` is the one that was checked and chosen, None with a proxy, which resolves the name itself;
    ``where`` names the server in errors.
    """

    def __init__(
        self,
        settings: WebSettings,
        endpoint: Endpoint,
        address: str | None,
        *,
        where: str,
        max_response_bytes: int,
    ) -> None:
        self._settings, self._endpoint, self._address = settings, endpoint, address
        self._where, self._limit = where, max_response_bytes
        self._own = {"host": endpoint.netloc, "accept": "*/*", "user-agent": "rambla-py"}
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = False

    def send(self, request: Request) -> Answer:
        """Send a request and return the answer; its ``timeout_s`` bounds each wait for the server.

        Raises ``AccessError`` for a refused certificate, ``ConnectionLostError`` if nothing was sent,
        ``UnknownOutcomeError`` if the request may have been read, ``PermanentError`` if the connection's
        settings leave no way to send it.
        """
        import http.client  # late: it reads mails, and few need it

        hop = self._next_hop()
        with self._connected(hop) as connection:
            connection.sock.settimeout(request.timeout_s)
            try:
                target = hop.origin + request.target
                connection.putrequest(request.method, target, skip_host=True, skip_accept_encoding=True)
                to_proxy = hop.login if hop.tunnel is None else {}
                for name, value in {**self._own, **to_proxy, **dict(request.headers)}.items():
                    connection.putheader(name, value)
                if request.body:
                    connection.putheader("content-length", str(len(request.body)))
                connection.endheaders(request.body)
                response = connection.getresponse()
                body, whole = _body(response, self._limit)
                headers = joined_headers((name.lower(), value) for name, value in response.getheaders())
                return Answer(response.status, headers, body, whole)
            except TimeoutError:
                reason = f"{self._where}: no answer within {request.timeout_s:g} s"
                raise UnknownOutcomeError(reason, connection_lost=False) from None
            except (OSError, http.client.HTTPException) as error:
                if refused := _refused_certificate(error, self._where):
                    raise refused from None
                reason = f"{self._where}: {error or type(error).__name__}"
                raise UnknownOutcomeError(f"{reason}; the request may have been read") from None

    def close(self) -> None:
        """End all requests in flight. May be called twice, from any thread."""
        with self._lock:
            self._closed = True
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _connected(self, hop: _Hop) -> Iterator[http.client.HTTPConnection]:
        import http.client

        timeout_s = min(self._settings.connect_timeout_s, _LONGEST_WAIT_S)
        connection = http.client.HTTPConnection(hop.host, hop.port, timeout=timeout_s)
        if hop.tunnel is not None:
            name = f"[{hop.tunnel.host}]" if ":" in hop.tunnel.host else hop.tunnel.host
            connection.set_tunnel(name, hop.tunnel.port, headers=hop.login)
        try:
            try:
                connection.connect()
                if hop.tls_name is not None:
                    context = client_context(tls_table(self._settings.tls) or TlsTable(), self._where)
                    connection.sock = context.wrap_socket(connection.sock, server_hostname=hop.tls_name)
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error) from None
            sock = connection.sock
            with self._lock:
                if self._closed:
                    raise ConnectionLostError(f"{self._where}: the connection was closed")
                self._open.add(sock)
            try:
                yield connection
            finally:
                with self._lock:
                    self._open.discard(sock)
        finally:
            connection.close()

    def _next_hop(self) -> _Hop:
        settings, endpoint = self._settings, self._endpoint
        secure = endpoint.scheme == "https"
        if settings.http_version == "2":
            raise PermanentError("headers with characters beyond ASCII need HTTP/1.1, and http_version is 2")
        if settings.proxy is None:
            assert self._address is not None
            return _Hop(self._address, endpoint.port, settings.server_name() if secure else None)
        proxy = endpoint_of(secret_text(settings.proxy) or "")
        login = _login(proxy)
        if not secure:
            name = proxy.host if proxy.scheme == "https" else None
            return _Hop(proxy.host, proxy.port, name, endpoint.origin, login)
        if proxy.scheme == "https":
            raise PermanentError(
                "headers with characters beyond ASCII reach no https server through an https proxy"
            )
        return _Hop(proxy.host, proxy.port, endpoint.host, login=login, tunnel=endpoint)

    def _unreachable(self, error: Exception) -> DeliveryError:
        if refused := _refused_certificate(error, self._where):
            return refused
        if str(error).startswith(_PROXY_LOGIN):
            return AccessError(f"{self._where}: the proxy refuses the credentials: {error}")
        return ConnectionLostError(f"cannot connect to {self._where}: {error or type(error).__name__}")


def _body(response: http.client.HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """Return the body up to the limit; never raises, because the status alone decides the outcome."""
    import http.client

    try:
        body = response.read(limit + 1)
    except http.client.IncompleteRead as error:
        return error.partial[:limit], False
    except (OSError, http.client.HTTPException):
        return b"", False
    return body[:limit], len(body) <= limit and not response.length


def _login(proxy: Endpoint) -> dict[str, str]:
    if proxy.username is None:
        return {}
    password = secret_text(proxy.password) or ""
    token = b64encode(f"{proxy.username}:{password}".encode()).decode()
    return {"proxy-authorization": f"Basic {token}"}


def _refused_certificate(error: Exception, where: str) -> AccessError | None:
    reason = error.reason or "" if isinstance(error, ssl.SSLError) else ""
    if any(word in reason for word in _REFUSED):
        return AccessError(f"{where}: the certificate was refused: {error}")
    return None
