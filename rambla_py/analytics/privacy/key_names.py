"""Names of fields, and what their values need."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from rambla_py._internal.redaction import looks_secret, snake_case

__all__ = ["KeyNames", "Kind"]

# Secret wherever they are in a name: session_id, card_pin, password_hash. What ``looks_secret`` finds at the
# end of a name only is here too, because a further field is recorded and a setting is not.
_SECRET_WORDS: Final = frozenset(
    str.split(
        "session sessions sess sessionid sessid phpsessid jsessionid csrf csrftoken xsrf cvv cvc csc iban ssn"
        " pin pwd pw pass passwd password passwords passphrase passcode secret secrets credential credentials"
        " authorization cookie cookies jwt otp totp bearer token apikey signature sig passwort kennwort senha"
        " contrase\u00f1a contrasena \u043f\u0430\u0440\u043e\u043b\u044c \u5bc6\u7801"
    )
)
_SECRET_PARTS: Final = re.compile(
    r"(^|_)((api|access|account|private|secret|signing|encryption|shared|master)_keys?"
    r"|(security|verification|mfa|otp|2fa)_code)(_|$)"
)
# "session_count" and "token_type" are not secrets.
_MEASURES: Final = frozenset(
    str.split(
        "count counts total duration length size limit usage used type ttl age expires expiry expired at s ms"
        " min max seconds minutes hours days enabled required valid changed strength policy"
    )
)
_ADDRESSES: Final = re.compile(
    r"(^|_)(ip(_?v[46])?(s|_addr(ess(es)?)?)?|(client|remote|peer|source)_(ip_)?addr(ess)?|forwarded_for)$"
)
_EMAILS: Final = re.compile(r"(^|_)(e_?mails?|e_?mail_addr(ess)?)$")


class Kind(IntEnum):
    """What is done with the value of a field."""

    PLAIN = 0
    SECRET = 1
    IP = 2
    EMAIL = 3
    LEFT_OUT = 4


class KeyNames:
    """The names that are secret, or hold an address.

    >>> names = KeyNames(secret_keys=["shoe_size"], keep_keys=["public_token"])
    >>> names.is_secret("ShoeSize"), names.is_secret("publicToken"), names.is_secret("sessionId")
    (True, False, True)
    >>> names.kind("client_ip").name
    'IP'
    """

    __slots__ = ("_kept", "_secret")

    def __init__(self, secret_keys: Iterable[str] = (), keep_keys: Iterable[str] = ()) -> None:
        self._secret = tuple(f"_{snake_case(name)}_" for name in secret_keys)
        self._kept = frozenset(map(_normal, keep_keys))

    def is_kept(self, name: str) -> bool:
        """Return whether the name is one of ``keep_keys``, in any case and style."""
        return _normal(name) in self._kept

    def is_secret(self, name: str) -> bool:
        """Return whether a value under this name is masked."""
        if not name.isascii():
            name = unicodedata.normalize("NFKC", name)
        words = snake_case(name)
        if any(secret in f"_{words}_" for secret in self._secret):
            return True
        if self._kept and _normal(name) in self._kept:
            return False
        return looks_secret(name) or _has_secret_word(words) or _has_secret_word(name.lower())

    def kind(self, name: str) -> Kind:
        """Return what is done with a value under this name."""
        if self.is_secret(name):
            return Kind.SECRET
        words = snake_case(name)
        if _ADDRESSES.search(words):
            return Kind.IP
        return Kind.EMAIL if _EMAILS.search(words) else Kind.PLAIN


def _normal(name: str) -> str:
    return snake_case(name).replace("_", "")


def _has_secret_word(name: str) -> bool:
    words = [word.rstrip("0123456789") for word in re.split(r"[\W_]+", name) if word]
    if words and words[-1] in _MEASURES:
        return False
    return not _SECRET_WORDS.isdisjoint(words) or _SECRET_PARTS.search("_".join(words)) is not None
