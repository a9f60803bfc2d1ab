"""URLs of servers, taken apart by one rule for all handlers."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from rambla_py._internal.host_names import ascii_host

__all__ = ["ServerUrl", "check_ends", "check_url", "lower_scheme", "split_url"]

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]|[\ud800-\udfff]")
_ENCODE = "percent-encode # / ? @ in the password (%23, %2F, %3F, %40)"


class ServerUrl(NamedTuple):
    """A URL with one host: ``scheme`` in lower case, ``host`` in ASCII, user and password unquoted.

    ``path`` and ``query`` are as they were written; ``query`` is without ``?``.
    """

    scheme: str
    host: str
    port: int | None
    path: str
    query: str
    username: str | None
    password: str | None


def check_ends(url: str) -> None:
    """Raise ``ValueError`` for a URL with whitespace around it, such as the line break of a file."""
    if url != url.strip():
        raise ValueError("a url with whitespace around it (a space or a line break); remove it")


def lower_scheme(url: str) -> str:
    """Return a URL with its scheme in lower case, as RFC 3986 compares schemes.

    >>> lower_scheme("REDIS://Cache/0"), lower_scheme("Cache")
    ('redis://Cache/0', 'Cache')
    """
    scheme, separator, rest = url.partition("://")
    return f"{scheme.lower()}{separator}{rest}" if separator else url


def check_url(url: str, *, at_in_path: bool = False) -> None:
    """Raise ``ValueError`` for a URL that would be cut at the wrong place; the message quotes nothing of it.

    That is one with whitespace or control characters, and one whose password has a ``#``, ``/``, ``?`` or
    ``@`` that is not percent-encoded: an ``@`` then comes after the authority, or twice in it. ``at_in_path``
    accepts an ``@`` in the path if the authority has neither a login nor a port, and so cannot be the start
    of a password.

    >>> check_url("amqp://shop:4711#secret@broker/")
    Traceback (most recent call last):
    ...
    ValueError: a url with an @ after the host; percent-encode # / ? @ in the password (%23, %2F, %3F, %40)
    """
    check_ends(url)
    if _UNSAFE.search(url):
        raise ValueError("a url with a space, a backslash or a control character in it")
    rest = url.partition("://")[2]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if authority.count("@") > 1:
        raise ValueError(f"a url with more than one @ before the host; {_ENCODE}")
    if "@" not in rest[len(authority) :]:
        return
    if not at_in_path:
        raise ValueError(f"a url with an @ after the host; {_ENCODE}")
    if "@" in authority or ":" in authority:
        raise ValueError(f"a url with an @ after the host; {_ENCODE}, and write %40 for an @ in the path")


def split_url(url: str, schemes: Collection[str], form: str, *, at_in_path: bool = False) -> ServerUrl:
    """Take a URL apart; ``form`` describes what is expected, for the error.

    Raises ``ValueError``, which quotes nothing of the URL.

    >>> split_url("NATS://shop:s%40cret@[::1]:4222", ("nats", "tls"), "nats://host:4222").host
    '::1'
    """
    check_url(url, at_in_path=at_in_path)
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"a url that cannot be read; expected {form}") from None
    if scheme not in schemes or not host or port == 0:
        raise ValueError(f"a url that is not {form}")
    if parts.fragment:
        raise ValueError(f"a url with a fragment (#), which is never sent; {_ENCODE}")
    return ServerUrl(
        scheme=scheme,
        host=ascii_host(host),
        port=port,
        path=parts.path,
        query=parts.query,
        username=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )
