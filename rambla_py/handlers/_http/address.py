"""This module knows where a server is, and which addresses no request may go to.

Whoever may choose a URL could otherwise have the credentials of the machine read out of its cloud's metadata
service. Names are resolved here, judged, and pinned, so that a second answer of the DNS changes nothing.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Secret

__all__ = ["Endpoint", "address_trouble", "endpoint_of", "reachable_address"]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        # Amazon over IPv6, Alibaba, Oracle, Azure's wire server; the others live at 169.254.169.254.
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    )
)
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")


class Endpoint(NamedTuple):
    """A server and the path that requests go to, with the URL taken apart; ``query`` is without ``?``."""

    scheme: str
    host: str
    port: int
    path: str
    query: str
    username: str | None
    password: Secret | None

    @property
    def origin(self) -> str:
        """``scheme://host:port``."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def netloc(self) -> str:
        """``host:port``, without a port that is the scheme's own: the server's name for people.

        A path may be a secret, and the origin is masked where it is all of a ``url``, which is kept secret.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


_PORTS = {"http": 80, "https": 443}


def endpoint_of(url: str) -> Endpoint:
    """Take a URL apart; raises ``ValueError`` that quotes nothing of it.

    >>> endpoint_of("https://hooks.example/in?x=1").origin
    'https://hooks.example'
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        raise ValueError("a url that cannot be read") from None
    if scheme not in _PORTS or not host or _UNSAFE.search(url):
        raise ValueError("a url that is not http://host... or https://host...")
    if parts.fragment:
        raise ValueError("a url with a fragment (#), which is never sent")
    return Endpoint(
        scheme=scheme,
        host=host,
        port=port or _PORTS[scheme],
        path=parts.path or "/",
        query=parts.query,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else Secret(unquote(parts.password)),
    )


def address_trouble(host: str) -> str | None:
    """Return what is wrong with sending to a host, as far as its text tells; None when nothing is.

    >>> address_trouble("169.254.169.254"), address_trouble("127.0.0.1")
    ('a link-local address (169.254.169.254)', None)
    """
    if host.lower().rstrip(".") in _METADATA_NAMES:
        return f"a metadata service ({host})"
    try:
        address: _Address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return _trouble(address)


def reachable_address(endpoint: Endpoint, *, timeout_s: float, allow_link_local: bool) -> str:
    """Resolve the host, and return the first address that takes a connection.

    Raises ``AccessError`` when one of its addresses is refused, ``ConnectionLostError`` when none answers
    within ``timeout_s``.
    """
    addresses = _resolved(endpoint)
    for address in () if allow_link_local else addresses:
        if trouble := address_trouble(address):
            raise AccessError(
                f"{endpoint.netloc} leads to {trouble}, which requests are not sent to; "
                "allow_link_local = true permits it"
            )
    silence = f"no answer within connect_timeout_s = {timeout_s:g}"
    until, failure = time.monotonic() + timeout_s, silence
    for address in addresses:
        left_s = until - time.monotonic()
        if left_s <= 0:
            break
        try:
            socket.create_connection((address, endpoint.port), timeout=left_s).close()
        except TimeoutError:
            failure = silence
        except OSError as error:
            failure = str(error)
        else:
            return address
    raise ConnectionLostError(f"cannot connect to {endpoint.netloc}: {failure}")


def _resolved(endpoint: Endpoint) -> list[str]:
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectionLostError(f"cannot connect to {endpoint.netloc}: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _trouble(address: _Address) -> str | None:
    inner = _embedded(address)
    if inner is not None:
        return _trouble(inner)
    if address in _METADATA:
        return f"a metadata service ({address})"
    if address.is_link_local:
        return f"a link-local address ({address})"
    if address.is_multicast:
        return f"a multicast address ({address})"
    return None


def _embedded(address: _Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 one stands for, by whichever of the ways there are."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour
