"""The part of a connection's table that every handler over HTTP has."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rambla_py._internal.host_names import address_of, ascii_host
from rambla_py._internal.tls import TlsTable
from rambla_py.handler import Secret, secret_text
from rambla_py.handlers._http.address import Endpoint, address_problem, endpoint_of

__all__ = ["LIMIT_NAME", "WebSettings"]

LIMIT_NAME = "the connection's max_body_bytes"
"""The name of the limit in a ``PayloadTooLargeError``."""

_NO_HOST = re.compile(r"[/?#@]")


class WebSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a server is reached over HTTP, and what is refused on the way.

    Raises ``ValueError``, which quotes nothing secret, for what does not fit together.
    """

    url: Annotated[
        Secret | None, Meta(description="http:// or https:// URL; a user and password in it are sent")
    ] = None
    scheme: Annotated[Literal["http", "https"] | None, Meta(description="the scheme, without a url")] = None
    host: Annotated[str | None, Meta(description="the server, without a url")] = None
    port: Annotated[
        int | None, Meta(ge=1, le=65535, description="TCP port; by default that of the scheme")
    ] = None
    tls: Annotated[bool | TlsTable, Meta(description="true for https; a table for a private authority")] = (
        False
    )
    proxy: Annotated[
        Secret | None,
        Meta(description="http:// or https:// URL of a proxy; environment variables are ignored"),
    ] = None
    connect_timeout_s: Annotated[
        float, Meta(gt=0, le=1e9, description="limit for connecting, and for the ping request")
    ] = 5.0
    max_connections: Annotated[
        int, Meta(ge=1, le=1024, description="requests that one worker may have in flight")
    ] = 32
    max_body_bytes: Annotated[
        int | None,
        Meta(ge=1, description="the server's limit: larger payloads are fatal, larger batches are split"),
    ] = None
    http_version: Annotated[
        Literal["auto", "1.1", "2"],
        Meta(description="auto: over TLS what the server chooses, else 1.1; 2: also without TLS"),
    ] = "auto"
    allow_link_local: Annotated[
        bool,
        Meta(description="true: also send to link-local addresses and cloud metadata services"),
    ] = False

    def __post_init__(self) -> None:
        if self.url is not None and (self.host, self.port, self.scheme) != (None, None, None):
            raise ValueError("both url and its parts (host, port, scheme); give one of them")
        if self.url is None and self.host is None:
            raise ValueError("neither url nor host; give one of them")
        if self.host is not None and _NO_HOST.search(self.host):
            raise ValueError(
                "a host that is more than a name or an address; path and login have their own keys"
            )
        endpoint = self.endpoint()
        if not self.allow_link_local and (problem := address_problem(endpoint.host)):
            raise ValueError(f"a host that is {problem}; allow_link_local = true permits it")
        if endpoint.scheme == "http" and self.tls:
            raise ValueError("tls together with http, which has none; write https")
        if self.proxy is not None:
            _check_proxy(self.proxy, self.tls)
        if self.server_name() != endpoint.host and address_of(self.server_name()):
            # pyreqwest would connect to that address, and not to the host.
            raise ValueError("tls.server_name with an address; write a name, or the address as the host")

    def endpoint(self) -> Endpoint:
        """Return where the server is, with the URL taken apart."""
        if self.url is not None:
            return endpoint_of(secret_text(self.url) or "")
        scheme = self.scheme or ("https" if self.tls else "http")
        port = self.port or self.default_port(scheme)
        host = self.host or ""
        return endpoint_of(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")

    def server_name(self) -> str:
        """Return the name that the server's certificate must have, in ASCII."""
        given = self.tls.server_name if isinstance(self.tls, TlsTable) else None
        return self.endpoint().host if given is None else ascii_host(given)

    def default_port(self, scheme: str) -> int:
        """Return the port if neither a url nor the table names one."""
        return 443 if scheme == "https" else 80


def _check_proxy(proxy: Secret, tls: bool | TlsTable) -> None:
    try:
        endpoint_of(proxy.reveal())
    except ValueError as error:
        raise ValueError(f"a proxy with {error}") from None
    if isinstance(tls, TlsTable) and tls.server_name is not None:
        raise ValueError("tls.server_name together with a proxy, which resolves the name itself")
