"""Strings without secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from rambla_py._internal.redaction import MASK
from rambla_py.analytics.privacy.cards import SHORTEST, mask_cards
from rambla_py.analytics.privacy.error_texts import mask_error_values
from rambla_py.analytics.privacy.key_values import mask_key_values
from rambla_py.analytics.privacy.marks import REPLACEMENT
from rambla_py.analytics.privacy.urls import mask_relative_queries, mask_urls

__all__ = ["mask_text", "storable"]

_PEM = re.compile(r"-{4,5} ?BEGIN [^-]{0,64}-{4,5}.*?(?:-{4,5} ?END [^-]{0,64}-{4,5}|\Z)", re.DOTALL)
_SCHEME = re.compile(
    r"(?<![A-Za-z])(?P<scheme>bearer|basic)(?P<gap>(?:\s|%20|\+|:)+)(?P<token>[^\s,;\"'<>]+)", re.I
)
_WORD_OF_PROSE = re.compile(r"[A-Z]?[a-z]+[.?!)]*")
# "password is hunter2", "token 'abc'": a value in quotes, or with a digit in it.
_NOUN_HINTS: Final = (
    "pass",
    "pwd",
    "token",
    "secret",
    "api",
    "pin",
    "cv",
    "ssn",
    "iban",
    "session",
    "identified",
)
_IN_PROSE = re.compile(
    r"(?<![A-Za-z])((?:password|passwd|passphrase|passcode|pwd|token|secret|api[ _\-]?key|pin|cvv2?|cvc|ssn"
    r"|iban|session(?:[ _\-]?id)?|identified\s+by)(?:\s+(?:is|was|of))?\s+)"
    r"(?:\"[^\"\n]*\"|'[^'\n]*'|`[^`\n]*`|(?=[^\s\d]*\d)[^\s,;]{4,})",
    re.IGNORECASE,
)
_JWT = re.compile(r"eyJ[\w\-+/=]{6,}(?:\.[\w\-+/=]*)*")
_SEPARATORS: Final = ("=", ":", "\uff1a", "\uff1d", "%3", " -", "--", "</", "',", '",')
_TOKEN_HINTS: Final = ("_", "-", "AKIA", "ASIA", "AIza", "SG.", "ya29.")
_TOKEN = re.compile(
    r"(?:sk|rk|pk)_(?:live|test)_[\w\-]+|(?:AKIA|ASIA)[0-9A-Za-z_\-]{6,}|gh[pousr]_[\w\-]+|github_pat_[\w\-]+"
    r"|glpat-[\w\-]+|xox[a-z]-[\w\-]+|whsec_[\w+/=\-]+|AIza[\w\-]{20,}|SG\.[\w\-]{10,}\.[\w\-]+|ya29\.[\w\-]{10,}"
    r"|(?<![A-Za-z0-9])(?:sk-[\w\-]{16,}|hf_\w{16,}|npm_\w{16,}|pypi-[\w\-]{16,}|shp(?:at|ss|ca|pa)_\w{16,})"
)
# user:password@host, as drivers of databases write it without a scheme. The user is searched for in each word
# that ends with "@", and not the "@" after each user: many colons would take quadratic time.
_BEFORE_AT = re.compile(r"(?<![^\s/@])[^\s/@]++@(?=[\w\[(])")
_USER = re.compile(r"(?<![\w/.+%\-])[\w.+%\-]++:(?=.)", re.DOTALL)
_ORACLE_LOGIN = re.compile(r"(?<=:)\w++/[^\s/@]+@(?=\w)")
_EMAIL = re.compile(r"(?<![\w.+%\-])[\w.+%\-]++@(?=(?:[\w\-]+\.)+[^\W\d_]{2,})")


def storable(text: str) -> str:
    r"""Return a string without the characters that databases refuse: NUL, and lone surrogates.

    >>> storable("a\x00b\ud800") == "a\ufffdb\ufffd"
    True
    """
    if "\x00" in text:
        text = text.replace("\x00", REPLACEMENT)
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def mask_text(text: str, is_secret: Callable[[str], bool], *, emails: bool = True) -> str:
    """Return a string with every secret in it masked, and the local part of e-mail addresses.

    Each pattern is tried only on a string that contains a character or word without which it cannot match.

    >>> from rambla_py._internal.redaction import looks_secret
    >>> mask_text("Bearer abc.def refused, card 4111-1111-1111-1111", looks_secret)
    'Bearer *** refused, card ***'
    """
    if "BEGIN " in text:
        text = _PEM.sub(MASK, text)
    if "//" in text or "%2" in text:
        text = mask_urls(text)
    if "?" in text and "=" in text:
        text = mask_relative_queries(text)
    text = _mask_tokens(text)
    if "\n" in text or " " in text:
        text = mask_error_values(text)
    if any(sign in text for sign in _SEPARATORS):
        text = mask_key_values(text, is_secret)
    if "@" in text:
        if ":" in text:
            text = _BEFORE_AT.sub(_masked_login, _ORACLE_LOGIN.sub(f"{MASK}@", text))
        if emails:
            text = _EMAIL.sub(f"{MASK}@", text)
    if len(text) >= SHORTEST:
        text = mask_cards(text)
    return text


def _mask_tokens(text: str) -> str:
    """Return a string without credentials that are recognised by their form."""
    lower = text.lower()
    if "bearer" in lower or "basic" in lower:
        text = _SCHEME.sub(_masked_scheme, text)
    if any(noun in lower for noun in _NOUN_HINTS):
        text = _IN_PROSE.sub(rf"\g<1>{MASK}", text)
    if "eyJ" in text:
        text = _JWT.sub(MASK, text)
    if any(hint in text for hint in _TOKEN_HINTS):
        text = _TOKEN.sub(MASK, text)
    return text


def _masked_scheme(found: re.Match[str]) -> str:
    """Return the credentials of an ``Authorization`` header masked; "basic usage" is prose."""
    if found["scheme"].lower() == "basic" and _WORD_OF_PROSE.fullmatch(found["token"]):
        return found[0]
    return f"{found['scheme']}{found['gap']}{MASK}"


def _masked_login(found: re.Match[str]) -> str:
    """Return a word that ends with ``@`` with its user and password masked, unless they are already."""
    user = _USER.search(found.string, found.start(), found.end() - 1)
    if user is None or found[0].endswith(f"{MASK}@"):
        return found[0]
    return f"{found.string[found.start() : user.start()]}{MASK}@"
