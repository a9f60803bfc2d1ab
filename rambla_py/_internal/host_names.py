"""Host names and addresses in their ASCII form."""

from __future__ import annotations

import ipaddress
import re

import idna

__all__ = ["Address", "address_of", "ascii_host", "embedded_ipv4"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = re.compile(r"[0-9a-z_]([0-9a-z_-]*[0-9a-z_])?")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_LONGEST_NAME = 253
_LONGEST_LABEL = 63
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)


def ascii_host(host: str) -> str:
    """Return a host as it goes into DNS and onto the wire, without the brackets of an IPv6 address.

    A name becomes lower-case A-labels (UTS 46, non-transitional); the port, the login and the rest of a URL
    must not be part of it. An IPv4 address in any form that resolvers accept (an integer, hexadecimal, octal,
    full-width digits) becomes four decimal numbers. Raises ``ValueError``, which quotes nothing.

    >>> ascii_host("Bücher.example"), ascii_host("faß.de")
    ('xn--bcher-kva.example', 'xn--fa-hia.de')
    >>> ascii_host("0x7f000001"), ascii_host("[::FFFF:a00:1]")
    ('127.0.0.1', '::ffff:a00:1')
    """
    if host.startswith("[") and host.endswith("]"):
        return _ipv6(host[1:-1])
    if ":" in host:
        return _ipv6(host)
    name = _mapped(host)
    absolute = name.endswith(".")
    labels = name.removesuffix(".").split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return str(_ipv4(labels))
    found = ".".join(map(_a_label, labels))
    if len(found) > _LONGEST_NAME:
        raise ValueError(f"a host name of more than {_LONGEST_NAME} characters")
    return f"{found}." if absolute else found


def address_of(host: str) -> Address | None:
    """Return the address that a host of ``ascii_host`` is, None for a name.

    >>> address_of("10.0.0.1"), address_of("example.com")
    (IPv4Address('10.0.0.1'), None)
    """
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def embedded_ipv4(address: Address) -> list[ipaddress.IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address contains: mapped, translated or tunnelled.

    >>> embedded_ipv4(ipaddress.ip_address("64:ff9b::a9fe:a9fe"))
    [IPv4Address('169.254.169.254')]
    """
    if isinstance(address, ipaddress.IPv4Address):
        return []
    number = int(address)
    low = ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    found = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if (
        any(address in network for network in _NAT64)
        or (address in _IPV4_COMPATIBLE and number > 1)
        or (number >> 32) & 0xFFFF_FFFF in _ISATAP
    ):
        found.append(low)
    return [ipv4 for ipv4 in found if ipv4 is not None]


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("a host with a colon that is not an IPv6 address") from None


def _mapped(host: str) -> str:
    if host.isascii():
        return host.lower()
    try:
        return idna.uts46_remap(host, std3_rules=False, transitional=False)
    except UnicodeError:
        raise ValueError("a host name with characters that no host name may have") from None


def _ipv4(labels: list[str]) -> ipaddress.IPv4Address:
    """Return an address of one to four numbers; the last fills the bytes that are left (``inet_aton``)."""
    try:
        numbers = [_number(label) for label in labels]
        *leading, last = numbers
        rest = 4 - len(leading)
        if rest < 1 or any(number > 0xFF for number in leading) or last >= 256**rest:
            raise ValueError
        return ipaddress.IPv4Address(int.from_bytes([*leading, *last.to_bytes(rest)]))
    except ValueError:
        raise ValueError("a host that ends in a number and is not an IPv4 address") from None


def _number(label: str) -> int:
    if not _NUMBER.fullmatch(label) or len(label) > _LONGEST_LABEL:
        raise ValueError
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8) if label.startswith("0") and label != "0" else int(label)


def _a_label(label: str) -> str:
    if label.isascii() and not label.startswith("xn--"):
        if len(label) > _LONGEST_LABEL or not _LABEL.fullmatch(label):
            raise ValueError("a host name that is not letters, digits and hyphens between dots")
        return label
    try:
        return idna.alabel(label).decode()
    except UnicodeError:
        raise ValueError("an internationalized host name that IDNA 2008 does not allow") from None
