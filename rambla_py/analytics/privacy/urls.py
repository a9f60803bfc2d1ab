"""URLs without user info, values of the query and fragment."""

from __future__ import annotations

import re
from typing import Final

from rambla_py._internal.redaction import MASK

__all__ = ["mask_relative_queries", "mask_url", "mask_urls"]

_END = re.compile(r"[\s\"']")
_WORD_END = re.compile(r"[ \n\"']")
_PORT = r"(?::\d{1,5})?"
_HOST = rf"(?:\[[0-9A-Za-z:.%]*\]|[^:\[\]@\\]*){_PORT}"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")
_PATH_PARAMETER = re.compile(r";([^;=/?#]*)=[^;/?#]*")
_NAME = re.compile(r"[^\s=]{1,64}")
_RELATIVE_QUERY = re.compile(r"\?(?=[\w.\-\[\]%$]+=)([^\s\"']*)")
_ENCODED = re.compile(r"((?<![A-Za-z])[A-Za-z][A-Za-z0-9+.]{1,30}%3[Aa]%2[Ff]%2[Ff])[^\s\"'<>&]+")
_WITHOUT_SCHEME = re.compile(r"(?<![:\w/])//[^\s/?#@]*@")
_LONGEST_PASSWORD: Final = 256
_MOST_PARAMETERS: Final = 100


def mask_urls(text: str) -> str:
    """Return a string in which every URL with a scheme is masked.

    >>> mask_urls("GET https://u:p@h.example/a?token=t&page=2#top failed")
    'GET https://***@h.example/a?token=***&page=***#*** failed'
    """
    parts: list[str] = []
    done = 0
    while (at := text.find("://", done)) >= 0:
        start = at + 3
        end = _end_of_url(text, start)
        parts += text[done:start], _mask_rest(text[start:end])
        done = end
    parts.append(text[done:])
    text = "".join(parts)
    if "%2" in text:
        text = _ENCODED.sub(rf"\g<1>{MASK}", text)
    return _WITHOUT_SCHEME.sub(f"//{MASK}@", text) if "@" in text else text


def mask_relative_queries(text: str) -> str:
    """Return a string in which the values of queries without a scheme before them are masked.

    >>> mask_relative_queries("GET /callback?code=abc&state=x HTTP/1.1")
    'GET /callback?code=***&state=*** HTTP/1.1'
    """
    return _RELATIVE_QUERY.sub(lambda found: _mask_query(found[0]), text)


def mask_url(url: str) -> str:
    """Return one URL, absolute or relative, without user info, values of the query and fragment.

    >>> mask_url("/items/7?page=2"), mask_url("//u:p@h/x"), mask_url("u:p@h/x"), mask_url("data:text/plain,x")
    ('/items/7?page=***', '//***@h/x', '***@h/x', 'data:***')
    """
    scheme, found, rest = url.partition("://")
    if found and "/" not in scheme and "?" not in scheme:
        return f"{scheme}://{_mask_rest(rest)}"
    if url.startswith("//"):
        return f"//{_mask_rest(url[2:])}"
    if url[:5].lower() == "data:":
        return f"{url[:5]}{MASK}"
    # Without "@" what is before a colon is a host, or part of a template such as "<int:id>".
    return _mask_rest(url) if "@" in re.split(r"[/?#]", url, maxsplit=1)[0] else _mask_tail(url)


def _end_of_url(text: str, start: int) -> int:
    """Return the end of a URL in a string.

    A password that was not quoted may hold characters that end a URL: what looks like one extends to the next
    ``@`` of the line.
    """
    found = _END.search(text, start)
    end = found.start() if found else len(text)
    authority = re.split(r"[/?#]", text[start:end], maxsplit=1)[0]
    if "@" in text[start:end]:
        # So may one with an "@" hold another white-space character than a blank.
        word = _WORD_END.search(text, end)
        stop = word.start() if word else len(text)
        return stop if "@" in text[end:stop] else end
    if _HOSTS.fullmatch(authority):
        return end
    line = text[end : end + _LONGEST_PASSWORD].partition("\n")[0]
    at = line.find("@")
    if at < 0:
        return end
    found = _END.search(text, end + at)
    return found.start() if found else len(text)


def _mask_rest(rest: str) -> str:
    """Return what follows ``scheme://``, masked."""
    head = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority = head.partition("/")[0]
    if ":" not in authority:
        if "@" not in authority:
            return _mask_tail(rest)
        return f"{MASK}@{_mask_tail(rest[authority.rindex('@') + 1 :])}"
    # A password with a bare "/", "?", "#" or "@" is the commonest mistake, and must not show either.
    if "@" in head:
        return f"{MASK}@{_mask_tail(rest[head.rindex('@') + 1 :])}"
    if _HOSTS.fullmatch(authority):
        return _mask_tail(rest)
    if "@" in rest:
        return f"{MASK}@{_mask_tail(rest[rest.rindex('@') + 1 :])}"
    return MASK + _mask_tail(rest[len(authority) :])


def _mask_tail(tail: str) -> str:
    """Return host, path, query and fragment with the values of the query and the fragment masked."""
    tail, found, fragment = tail.partition("#")
    if found:
        found = f"#{MASK}" if fragment else "#"
    path, mark, query = tail.partition("?")
    if ";" in path:
        path = _PATH_PARAMETER.sub(rf";\1={MASK}", path)
    return path + (_mask_query(mark + query) if mark else "") + found


def _mask_query(query: str) -> str:
    """Return ``?name=value&...`` with its values masked; a name without a value may be one."""
    query, found, fragment = query[1:].partition("#")
    if found:
        found = f"#{MASK}" if fragment else "#"
    if not query:
        return "?" + found
    parts = re.split(r"([&;])", query, maxsplit=_MOST_PARAMETERS)
    parts[::2] = map(_mask_parameter, parts[::2])
    return "?" + "".join(parts) + found


def _mask_parameter(parameter: str) -> str:
    name, found, value = parameter.partition("=")
    if not found:
        return MASK if name else ""
    if not _NAME.fullmatch(name):
        name = MASK
    return f"{name}={MASK if value else ''}"
