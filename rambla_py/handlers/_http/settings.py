"""This module is the part of a connection's table that every handler on HTTP has."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, secret_text
from rambla_py.handlers._http.address import Endpoint, address_trouble, endpoint_of
from rambla_py.tls import CertFile, KeyFile, ServerName, Verify

__all__ = ["LIMIT_NAME", "HttpTls", "WebConnection"]

LIMIT_NAME = "the connection's max_body_bytes"
"""What a payload is over, in the words of an error."""

_NO_HOST = re.compile(r"[/?#@]")


class HttpTls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How TLS is done; the system's authorities are trusted, and those of ``ca_file`` beside them."""

    ca_file: Annotated[
        str | None, Meta(description="PEM file of authorities to trust beside the system's")
    ] = None
    cert_file: CertFile = None
    key_file: KeyFile = None
    server_name: ServerName = None
    verify: Verify = True


class WebConnection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a server is reached over HTTP, and what is refused on the way.

    Raises ``ValueError``, which quotes nothing secret, for what does not fit together.
    """

    url: Annotated[
        Secret | None, Meta(description="http:// or https:// URL; a user and a password in it are sent")
    ] = None
    scheme: Annotated[Literal["http", "https"] | None, Meta(description="where no url is given")] = None
    host: Annotated[str | None, Meta(description="where no url is given; localhost when neither is")] = None
    port: Annotated[
        int | None, Meta(ge=1, le=65535, description="TCP port; the scheme's own when not given")
    ] = None
    tls: Annotated[bool | HttpTls, Meta(description="a table, for a private authority; true is https")] = (
        False
    )
    proxy: Annotated[
        Secret | None,
        Meta(description="http:// or https:// URL of a proxy; the environment's variables are not read"),
    ] = None
    connect_timeout_s: Annotated[
        float, Meta(gt=0, description="bound of connecting, and of the request that asks whether it works")
    ] = 5.0
    max_connections: Annotated[
        int, Meta(ge=1, le=1024, description="most requests in flight of one worker")
    ] = 32
    max_body_bytes: Annotated[
        int | None,
        Meta(ge=1, description="the server's limit: larger payloads are fatal, larger batches split"),
    ] = None
    http_version: Annotated[
        Literal["auto", "1.1", "2"],
        Meta(description="auto: what the server chooses over TLS, else 1.1; 2: also without TLS"),
    ] = "auto"
    allow_link_local: Annotated[
        bool,
        Meta(description="true: also send to link-local addresses and to metadata services of clouds"),
    ] = False

    def __post_init__(self) -> None:
        if self.url is not None and (self.host, self.port, self.scheme) != (None, None, None):
            raise ValueError("both url and its parts (host, port, scheme); give one of them")
        if self.host is not None and _NO_HOST.search(self.host):
            raise ValueError(
                "a host that is more than a name or an address; path and login have their own keys"
            )
        endpoint = self.endpoint()
        if not self.allow_link_local and (trouble := address_trouble(endpoint.host)):
            raise ValueError(f"a host that is {trouble}; allow_link_local = true permits it")
        if endpoint.scheme == "http" and self.tls:
            raise ValueError("tls together with http, which has none; write https")
        if self.proxy is not None:
            _check_proxy(self.proxy, self.tls)
        if isinstance(self.tls, HttpTls) and self.tls.server_name not in (None, endpoint.host):
            _check_server_name(self.tls.server_name or "")

    def endpoint(self) -> Endpoint:
        """Return where the server is, with the URL taken apart."""
        if self.url is not None:
            return endpoint_of(secret_text(self.url) or "")
        scheme = self.scheme or ("https" if self.tls else "http")
        port = self.port or self.usual_port(scheme)
        host = self.host or "localhost"
        return endpoint_of(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}")

    def usual_port(self, scheme: str) -> int:
        """Return the port where neither a url nor the table names one."""
        return 443 if scheme == "https" else 80


def _check_server_name(name: str) -> None:
    """Raise for an address: pyreqwest would connect to it, and not to the host."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return
    raise ValueError("tls.server_name with an address; write a name, or the address as the host")


def _check_proxy(proxy: Secret, tls: bool | HttpTls) -> None:
    try:
        endpoint_of(proxy.reveal())
    except ValueError:
        raise ValueError("a proxy that is not an http:// or https:// URL") from None
    if isinstance(tls, HttpTls) and tls.server_name is not None:
        raise ValueError("tls.server_name together with a proxy, which resolves the name itself")
