"""Masking of secrets in strings: logs, errors, status pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus, unquote, unquote_plus

__all__ = ["MASK", "Redactor", "looks_secret", "redact_url", "snake_case", "url_secrets"]

MASK: Final = "***"
SHORTEST: Final = 4
"""Texts shorter than this are not masked: they would take half of every log line with them."""

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase|code)s?$|(^|[-_])(pass|pwd|auth|authorization|cookie)$|(secret|token|credential)s?$|^key$"
    r"|(api|access|account|auth|encryption|license|master|private|secret|shared|signing|write)[-_]?keys?$",
    re.IGNORECASE,
)
# Between the words of a name in camel case, "APIKey" included, and whatever separates them otherwise.
_BETWEEN_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\W_]+")
_USERINFO = re.compile(r"(?P<lead>[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@]*):(?P<password>[^\s\"'<>]*)@")
# Passwords with a bare '/' or '@' are wrong in a URL, and the commonest mistake: they must not show either.
_STRICT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@]*:(?P<password>[^\s/?#@]*)@")
_PARAMETER = re.compile(r"(?P<lead>[?&;](?P<name>[^\s=&;#]+)=)(?P<value>[^\s&;#]+)")


def looks_secret(name: str) -> bool:
    """Return whether a key or a variable of this name is likely to hold a secret, in any case and style.

    >>> looks_secret("api_key"), looks_secret("DB_PASSWORD"), looks_secret("routing_key")
    (True, True, False)
    >>> looks_secret("apiKey"), looks_secret("user[password]"), looks_secret("Client Secret 2")
    (True, True, True)
    """
    if _SECRET_NAME.search(name) is not None:
        return True
    words = snake_case(name)
    numberless = words.rstrip("0123456789_")
    if numberless != "key":  # key1, key2: parts of any table
        words = numberless
    # In mixed case ("aPiKeY") the word breaks are wrong, hence the name without them.
    return any(map(_SECRET_NAME.search, (words, words.replace("_", ""))))


def snake_case(name: str) -> str:
    """Return the words of a name in lower case, joined by underscores.

    >>> snake_case("clientSecret"), snake_case("X-API-Key"), snake_case("APIKey")
    ('client_secret', 'x_api_key', 'api_key')
    """
    return _BETWEEN_WORDS.sub("_", name).strip("_").lower()


def redact_url(text: str) -> str:
    """Return the text with the password of every URL in it masked, in its parameters too.

    >>> redact_url("amqp://shop:hunter2@broker/%2f")
    'amqp://shop:***@broker/%2f'
    """
    if "://" not in text:
        return text
    text = _USERINFO.sub(rf"\g<lead>:{MASK}@", text)
    return _PARAMETER.sub(lambda found: found["lead"] + _masked(found["name"], found["value"]), text)


def url_secrets(text: str) -> Iterator[str]:
    """Yield the passwords in the URLs of a string, as written and unquoted."""
    if "://" not in text:
        return
    found = [match["password"] for pattern in (_USERINFO, _STRICT) for match in pattern.finditer(text)]
    found.extend(match["value"] for match in _PARAMETER.finditer(text) if looks_secret(match["name"]))
    yield from dict.fromkeys([*found, *map(unquote, found), *map(unquote_plus, found)])


class Redactor:
    """Masks the given secrets wherever they occur in a string, also quoted for a URL or escaped.

    Secrets of fewer than four characters are left alone. Safe to share between threads.

    >>> Redactor(["hunter2"]).text("login hunter2 refused")
    'login *** refused'
    """

    __slots__ = ("_pattern",)

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= SHORTEST for form in _forms(secret)}
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def text(self, text: str) -> str:
        """Return the text with ``***`` for each secret in it."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def __repr__(self) -> str:
        return f"Redactor(active={self._pattern is not None})"


def _masked(name: str, value: str) -> str:
    return MASK if looks_secret(name) else value


def _forms(secret: str) -> set[str]:
    return {
        secret,
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }
