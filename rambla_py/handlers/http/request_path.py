"""Path and query of a request, from the connection's URL and a message's options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

from rambla_py.errors import PermanentError
from rambla_py.handlers._http.address import Endpoint, endpoint_of

__all__ = ["same_server", "target_of"]

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_LONGEST = 8_000
"""Characters of path and query; servers refuse more with 414, most of them at 8,192."""
_TOO_LARGE = 10**40
_KEPT = "/?#[]@!$&'()*+,;=:%~-._"


def target_of(
    base: Endpoint,
    *,
    merge_url: str = "",
    append_path: str | list[str] = "",
    append_query: Mapping[str, Any] | None = None,
    fixed_query: Mapping[str, Any] | None = None,
) -> str:
    """Return path and query as they are sent; ``merge_url`` does not replace ``fixed_query``.

    Raises ``PermanentError`` for what would lead elsewhere (another server, ``..``, control characters), for
    what UTF-8 cannot encode, and for more than 8,000 characters.

    >>> target_of(endpoint_of("http://x/in?a=1"), append_path="orders/42", append_query={"b": [2, "ü"]})
    '/in/orders/42?a=1&b=2&b=%C3%BC'
    """
    path, query = base.path, base.query
    _check_text(merge_url, "merge_url")
    if merge_url:
        path, query = same_server(base, merge_url, "merge_url")
    if append_path:
        path = path.rstrip("/") + "/" + _segments(append_path)
    added = (_pairs(pairs) for pairs in (fixed_query, append_query) if pairs)
    query = "&".join(part for part in (query, *added) if part)
    path = quote(path, safe=_KEPT)
    target = f"{path}?{quote(query, safe=_KEPT)}" if query else path
    if len(target) > _LONGEST:
        raise PermanentError(f"the path and query have {len(target)} characters; at most {_LONGEST} are sent")
    return target


def same_server(base: Endpoint, url: str, what: str) -> tuple[str, str]:
    """Return path and query of a URL that is relative to ``base``, or on the same server.

    Raises ``PermanentError`` for another server: our credentials and messages are not for it.
    """
    if _UNSAFE.search(url):
        raise PermanentError(f"{what}: expected a URL without blanks, backslashes or control characters")
    query = f"?{base.query}" if base.query else ""
    try:
        _no_dots(urlsplit(url).path, what)
        found = endpoint_of(urljoin(base.origin + base.path + query, url))
    except ValueError as error:
        raise PermanentError(f"{what}: {error}") from None
    if found.origin != base.origin or found.username is not None:
        raise PermanentError(f"{what}: leads to {found.origin}, not to {base.origin}")
    return found.path, found.query


def _segments(append_path: str | list[str]) -> str:
    listed = append_path if isinstance(append_path, list) else append_path.lstrip("/").split("/")
    _check_text("/".join(listed), "append_path")
    for segment in listed:
        if any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in segment):
            raise PermanentError("append_path: expected no control characters")
        if segment in (".", "..") or (segment == "" and isinstance(append_path, list)):
            raise PermanentError(f"append_path: a segment {segment!r} would lead elsewhere")
    return "/".join(quote(segment, safe="") for segment in listed)


def _check_text(text: str, what: str) -> None:
    """Raise for what would be costly to quote, or cannot be encoded."""
    if len(text) > _LONGEST:
        raise PermanentError(f"{what} has {len(text)} characters; at most {_LONGEST} are sent")
    try:
        text.encode()
    except UnicodeError:
        raise PermanentError(f"{what} contains a lone surrogate, which UTF-8 cannot encode") from None


def _no_dots(path: str, what: str) -> None:
    # Parsers of URLs take %2e for a dot, too.
    if any(unquote(segment) in (".", "..") for segment in path.split("/")):
        raise PermanentError(f"{what}: a segment '..' would lead elsewhere")


def _pairs(query: Mapping[str, Any]) -> str:
    pairs = [(name, one) for name, value in query.items() for one in _values(name, value)]
    for name, value in pairs:
        _check_text(name, "append_query: a name")
        _check_text(value, "append_query: a value")
    return urlencode(pairs)


def _values(name: str, value: Any) -> list[str]:
    listed = value if isinstance(value, list | tuple) else [value]
    return [_scalar(name, one) for one in listed if one is not None]


def _scalar(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | float):
        return str(value)
    if isinstance(value, int) and abs(value) < _TOO_LARGE:
        return str(value)
    raise PermanentError(
        f"append_query.{name[:60]!r}: expected a string or a number, got {type(value).__name__}"
    )
