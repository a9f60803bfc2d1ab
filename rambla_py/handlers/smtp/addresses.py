"""Parsing of mail addresses, one to a string."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from rambla_py._internal.host_names import address_of, ascii_host
from rambla_py.handlers.smtp.headers import refuse_controls

__all__ = ["Mailbox", "read_mailbox", "read_return_path"]

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
_LOCAL = re.compile(rf'(?:{_ATOM}(?:\.{_ATOM})*|"(?:[\x20-\x7e]|[\u0080-\U0010ffff])*")\Z')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"\Z')
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*\Z"
)
_LITERAL = re.compile(r"\[[0-9A-Za-z:.]+\]\Z")
_WITH_NAME = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"\s*|[^<>]*)<(?P<address>[^<>]*)>\Z')
_MOST_BYTES = 254
"""RFC 5321, 4.5.3.1.3: a path has 256 octets with its angle brackets."""


class Mailbox(NamedTuple):
    """An address and its display name. The domain is in ASCII; the null return path has no address."""

    address: str
    name: str = ""

    @property
    def utf8(self) -> bool:
        """Whether a relay must offer SMTPUTF8 to accept this address."""
        return not self.address.isascii()

    @property
    def domain(self) -> str:
        """The part after the ``@``."""
        return self.address.rpartition("@")[2]


@functools.lru_cache(maxsize=4096)
def read_mailbox(text: str, name: str = "") -> Mailbox:
    """Return the one mailbox in a string; raises ``ValueError``, which quotes nothing of it.

    >>> read_mailbox("Jane Doe <jane@example.com>").name, read_mailbox("a@bücher.example").address
    ('Jane Doe', 'a@xn--bcher-kva.example')
    """
    refuse_controls(text)
    refuse_controls(name)
    bare = text.strip()
    found = _WITH_NAME.match(bare)
    if found:
        name = name or _unquoted(found["name"].strip())
        bare = found["address"].strip()
    return Mailbox(_address(bare), name)


def read_return_path(text: str) -> Mailbox:
    """Return the mailbox of a return path; ``<>`` is the null path, to which nothing bounces.

    >>> read_return_path("<>").address
    ''
    """
    return Mailbox("") if text.strip() == "<>" else read_mailbox(text)


def _address(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError("expected one address, as name@example.com or Name <name@example.com>")
    if not (_LOCAL.match(local) and text.isprintable()) or (local[:1] == '"' and not _QUOTED.match(local)):
        raise ValueError("expected one address; the part before the last @ is not valid")
    address = f"{local}@{_ascii_domain(domain)}"
    if len(address.encode()) > _MOST_BYTES:
        raise ValueError(f"an address has at most {_MOST_BYTES} bytes, this one has {len(address.encode())}")
    return address


def _ascii_domain(domain: str) -> str:
    if _LITERAL.match(domain):
        return domain
    try:
        found = ascii_host(domain)
    except ValueError as error:
        raise ValueError(f"the domain of the address: {error}") from None
    if not _DOMAIN.match(found) or address_of(found):
        raise ValueError("the domain of the address is not a host name; an IP address goes in brackets")
    return found


def _unquoted(name: str) -> str:
    if _QUOTED.match(name):
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name
