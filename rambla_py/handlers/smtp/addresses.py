"""This module reads mail addresses: one text is one address, and what could be two is refused."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from rambla_py.handlers.smtp.words import encoded_words, refuse_controls

__all__ = ["Mailbox", "read_mailbox"]

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
_LOCAL = re.compile(rf'(?:{_ATOM}(?:\.{_ATOM})*|"(?:[\x20-\x7e]|[\u0080-\U0010ffff])*")\Z')
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"\Z')
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?)*\Z"
)
_LITERAL = re.compile(r"\[[0-9A-Za-z:.]+\]\Z")
_WITH_NAME = re.compile(r'(?P<name>"(?:[^"\\]|\\.)*"\s*|[^<>]*)<(?P<address>[^<>]*)>\Z')
_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ \-]*\Z")
_MOST_BYTES = 254
"""RFC 5321, 4.5.3.1.3: a path has 256 octets with its angle brackets."""


class Mailbox(NamedTuple):
    """An address, and the name it is shown with; the domain is in ASCII, whatever it was written in."""

    address: str
    name: str = ""

    @property
    def utf8(self) -> bool:
        """Whether a relay must know SMTPUTF8 to take this address."""
        return not self.address.isascii()

    @property
    def domain(self) -> str:
        """What stands behind the ``@``."""
        return self.address.rpartition("@")[2]

    @property
    def header(self) -> str:
        """The mailbox as it stands in a header, the name quoted or encoded where it has to be."""
        if not self.name:
            return self.address
        return f"{_shown(self.name)} <{self.address}>"


@functools.lru_cache(maxsize=4096)
def read_mailbox(text: str, name: str = "") -> Mailbox:
    """Return the mailbox that a text names; raises ``ValueError`` with what is wrong.

    >>> read_mailbox("Jane Doe <jane@example.com>").header, read_mailbox("a@bücher.example").address
    ('Jane Doe <jane@example.com>', 'a@xn--bcher-kva.example')
    """
    refuse_controls(text)
    refuse_controls(name)
    bare = text.strip()
    found = _WITH_NAME.match(bare)
    if found:
        name = name or _unquoted(found["name"].strip())
        bare = found["address"].strip()
    return Mailbox(_address(bare), name)


def _address(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError("expected one address, as name@example.com or Name <name@example.com>")
    if not (_LOCAL.match(local) and text.isprintable()) or (local[:1] == '"' and not _QUOTED.match(local)):
        raise ValueError(
            f"expected one address; what stands before the last @ is not a name: {_cut(local)!r}"
        )
    address = f"{local}@{_ascii_domain(domain)}"
    if len(address.encode()) > _MOST_BYTES:
        raise ValueError(f"an address may have {_MOST_BYTES} bytes, this one has {len(address.encode())}")
    return address


def _ascii_domain(domain: str) -> str:
    if not domain.isascii():
        try:
            domain = domain.encode("idna").decode()
        except UnicodeError:
            raise ValueError(f"{_cut(domain)!r} is not the name of a domain") from None
    if not (_DOMAIN.match(domain) or _LITERAL.match(domain)):
        raise ValueError(f"{_cut(domain)!r} is not the name of a domain")
    return domain


def _unquoted(name: str) -> str:
    if _QUOTED.match(name):
        return re.sub(r"\\(.)", r"\1", name[1:-1])
    return name


def _shown(name: str) -> str:
    if not name.isascii():
        return encoded_words(name)
    if _PLAIN_NAME.match(name) and not any(part in name for part in ("=?", "  ")):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}..."
