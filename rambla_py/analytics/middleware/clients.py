"""Addresses of clients, also behind trusted proxies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from rambla_py.analytics.errors import AnalyticsError

__all__ = ["ClientAddresses"]

_MOST_KNOWN: Final = 1_024
_UNIX: Final = "unix"


class ClientAddresses:
    """Decides which address a request comes from.

    It is the peer's. Only when the peer is a trusted proxy, it is the rightmost address of
    ``X-Forwarded-For`` (or else ``Forwarded``) that is not one; if there is none, or what is there is no
    address, the peer's.

    ``trusted`` are networks in CIDR notation or single addresses; ``"unix"`` is a peer without an address, as
    servers that listen on a Unix socket give. Raises `AnalyticsError` for anything else.

    >>> clients = ClientAddresses(["10.0.0.0/8"])
    >>> clients.address("10.0.0.7", ["9.9.9.9, 198.51.100.5"])
    '198.51.100.5'
    >>> clients.address("203.0.113.9", ["1.2.3.4"])
    '203.0.113.9'
    """

    __slots__ = ("_known", "_networks", "_unix", "are_any_trusted")

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        names = [trusted] if isinstance(trusted, str) else list(trusted)
        self._unix = _UNIX in names
        self._networks = [_network(name) for name in names if name != _UNIX]
        self._known: dict[str, bool] = {}
        self.are_any_trusted = bool(names)

    def address(
        self, peer: str | None, forwarded_for: Iterable[str] = (), forwarded: Iterable[str] = ()
    ) -> str | None:
        """Return the client's address; the headers are given as the values of their lines, in order."""
        if not self.are_any_trusted or not self._is_trusted_peer(peer):
            return peer
        listed = ",".join(forwarded_for)
        hops = listed.split(",") if listed else [_for(hop) for hop in ",".join(forwarded).split(",")]
        for hop in reversed(hops):
            found = _parsed(hop)
            if found is None:
                return peer
            if not self._is_trusted(found):
                return str(found)
        return peer

    def of_headers(
        self, peer: str | None, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[str | None, str | None]:
        """Return the user agent and the client's address from headers, whose names are in lower case."""
        user_agent = None
        forwarded_for: list[str] = []
        forwarded: list[str] = []
        for name, value in headers:
            if name == b"user-agent":
                user_agent = value.decode("latin-1")
            elif name == b"x-forwarded-for":
                forwarded_for.append(value.decode("latin-1"))
            elif name == b"forwarded":
                forwarded.append(value.decode("latin-1"))
        return user_agent, self.address(peer, forwarded_for, forwarded)

    def of_environ(self, environ: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Return the user agent and the client's address from an environment of WSGI."""
        user_agent, peer = environ.get("HTTP_USER_AGENT"), environ.get("REMOTE_ADDR") or None
        if not self.are_any_trusted:
            return user_agent, peer
        forwarded_for, forwarded = environ.get("HTTP_X_FORWARDED_FOR"), environ.get("HTTP_FORWARDED")
        return user_agent, self.address(
            peer, [forwarded_for] if forwarded_for else [], [forwarded] if forwarded else []
        )

    def _is_trusted_peer(self, peer: str | None) -> bool:
        if not peer:
            return self._unix
        known = self._known.get(peer)
        if known is None:
            found = _parsed(peer)
            known = found is not None and self._is_trusted(found)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[peer] = known
        return known

    def _is_trusted(self, found: IPv4Address | IPv6Address) -> bool:
        return any(found in network for network in self._networks)


def _network(name: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(name, strict=False)
    except ValueError:
        raise AnalyticsError(
            f"trusted_proxies: expected addresses or networks such as 10.0.0.0/8, or {_UNIX!r}; got {name!r}"
        ) from None


def _for(hop: str) -> str:
    """Return the address that an element of ``Forwarded`` names, an empty string without one."""
    for pair in hop.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """Return an address without port, brackets and zone; an IPv4 address mapped to IPv6 as that one."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
