"""Server addresses, and the ones that no request may go to.

Without this guard, a URL from an untrusted source could read the machine's credentials from the metadata
service of its cloud. Names are resolved, checked and pinned here, so that a second DNS answer changes
nothing.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from typing import NamedTuple

from rambla_py._internal.host_names import Address, address_of, embedded_ipv4
from rambla_py._internal.urls import split_url
from rambla_py.errors import AccessError, ConnectionLostError
from rambla_py.handler import Secret

__all__ = ["Endpoint", "address_problem", "endpoint_of", "reachable_address"]

_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        # Amazon over IPv6, Alibaba, Oracle, Azure's wire server; the others are at 169.254.169.254.
        ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
    )
)
_METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
_LONGEST_WAIT_S = 1e6  # poll() counts milliseconds in 32 bits
_PORTS = {"http": 80, "https": 443}


class Endpoint(NamedTuple):
    """A server and the path that requests go to; ``host`` is in ASCII, ``query`` is without ``?``."""

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
        """``host:port``, without the scheme's default port: the server's name in errors and logs.

        A path may be a secret, and so may a whole ``url``, of which the origin is a part.
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def scope(self) -> str:
        """Scheme, host, port and path: what is unavailable when the server says so."""
        return f"{self.origin}{self.path}"


def endpoint_of(url: str) -> Endpoint:
    """Take a URL apart; raises ``ValueError`` that quotes nothing of it.

    >>> endpoint_of("https://hooks.example/in?x=1").origin
    'https://hooks.example'
    """
    parts = split_url(url, _PORTS, "http://host... or https://host...", at_in_path=True)
    return Endpoint(
        scheme=parts.scheme,
        host=parts.host,
        port=parts.port or _PORTS[parts.scheme],
        path=parts.path or "/",
        query=parts.query,
        username=parts.username,
        password=None if parts.password is None else Secret(parts.password),
    )


def address_problem(host: str) -> str | None:
    """Return why nothing may be sent to a host (in its ASCII form), None if nothing is wrong with it.

    >>> address_problem("169.254.169.254"), address_problem("127.0.0.1")
    ('a link-local address (169.254.169.254)', None)
    """
    if host.rstrip(".") in _METADATA_NAMES:
        return f"a metadata service ({host})"
    address = address_of(host.partition("%")[0])
    if address is None:
        return None
    problems = (_problem(each) for each in (address, *embedded_ipv4(address)))
    return next(filter(None, problems), None)


def reachable_address(endpoint: Endpoint, *, timeout_s: float, allow_link_local: bool) -> str:
    """Resolve the host, and return the first address that accepts a connection.

    Raises ``AccessError`` if one of its addresses is refused, ``ConnectionLostError`` if none answers within
    ``timeout_s``.
    """
    addresses = _resolved(endpoint)
    for address in () if allow_link_local else addresses:
        if problem := address_problem(address):
            raise AccessError(
                f"{endpoint.netloc} resolves to {problem}, which requests are not sent to; "
                "allow_link_local = true permits it"
            )
    no_answer = f"no answer within connect_timeout_s = {timeout_s:g}"
    until, failure = time.monotonic() + timeout_s, no_answer
    for address in addresses:
        left_s = until - time.monotonic()
        if left_s <= 0:
            break
        try:
            socket.create_connection((address, endpoint.port), timeout=min(left_s, _LONGEST_WAIT_S)).close()
        except TimeoutError:
            failure = no_answer
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


def _problem(address: Address) -> str | None:
    if address in _METADATA:
        return f"a metadata service ({address})"
    if address.is_link_local:
        return f"a link-local address ({address})"
    if address.is_multicast:
        return f"a multicast address ({address})"
    return None
