"""Removal of secrets from what an event records."""

from __future__ import annotations

import functools
import os
import secrets
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

from rambla_py._internal.redaction import MASK
from rambla_py.analytics.privacy.addresses import (
    EmailParts,
    Hasher,
    cut_address,
    cut_ipv4,
    parsed_address,
    parsed_email,
)
from rambla_py.analytics.privacy.cards import is_card_number
from rambla_py.analytics.privacy.key_names import KeyNames, Kind
from rambla_py.analytics.privacy.marks import CUT, UNREADABLE
from rambla_py.analytics.privacy.settings import PrivacySettings
from rambla_py.analytics.privacy.sizes import fit
from rambla_py.analytics.privacy.statements import QueryText, Statements
from rambla_py.analytics.privacy.texts import mask_text, storable
from rambla_py.analytics.privacy.urls import mask_url
from rambla_py.analytics.privacy.values import ITEMS, NAMED, Cleaner, mask_named_value, string_of, unused

__all__ = ["SALT_VARIABLE", "EmailParts", "QueryText", "Scrubber"]

SALT_VARIABLE: Final = "RAMBLA_ANALYTICS_SALT"
_CACHED: Final = 4_096
_SHORT: Final = 256
"""Longest string that is cached, in characters: a User-Agent is."""
_LONGEST_KEY: Final = 256
_MARGIN: Final = 4_096
"""Characters beyond ``max_text`` that are read, so that a secret across the cut is recognised."""
_HARMLESS: Final = 12
"""Longest string of letters and digits that is no secret by its form."""
# Made beforehand: at the limit of recursion nothing more can be called.
_NO_QUERY: Final = QueryText("OTHER", None, None)
_NO_EMAIL: Final = EmailParts(None, None)
_PLAIN: Final = Kind.PLAIN
_LEFT_OUT: Final = Kind.LEFT_OUT
_INTEGER: Final = 10**12
"""Integers below this are no card numbers."""


class Scrubber:
    """Removes secrets from strings, further fields, statements, addresses and URLs.

    ``salt`` is the key of every hash; without one it is ``RAMBLA_ANALYTICS_SALT`` or, if that is not set,
    random in each process, so that hashes of two processes cannot be compared. No method raises an
    ``Exception``. Thread-safe.

    >>> scrubber = Scrubber(PrivacySettings(), salt=b"key")
    >>> scrubber.fields({"order_id": "o-17", "cardPin": 1234, "note": "token=abc"})
    {'order_id': 'o-17', 'cardPin': '***', 'note': 'token=***'}
    """

    def __init__(
        self,
        settings: PrivacySettings,
        *,
        salt: bytes | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._keys = KeyNames(settings.secret_keys, settings.keep_keys)
        self._hasher = Hasher(salt if salt is not None else _process_salt())
        self._plans: dict[str, tuple[str, Kind]] = {}
        self._top_plans: dict[str, tuple[str, Kind]] = {}
        self._emails = settings.email != "keep"
        self._is_secret = functools.lru_cache(_CACHED)(self._keys.is_secret)
        self._short = functools.lru_cache(_CACHED)(self._scrubbed)
        self._short_url = functools.lru_cache(_CACHED)(self._scrubbed_url)
        self._statements = Statements(
            self._query_text, max_text=settings.max_text, with_text=settings.query_text
        )

    def __repr__(self) -> str:
        return (
            f"Scrubber(mode={self.settings.mode!r}, ip={self.settings.ip!r}, email={self.settings.email!r})"
        )

    def text(self, text: object) -> str:
        """Return a string with its secrets masked, cut at ``max_text``.

        >>> Scrubber(PrivacySettings()).text("https://u:p@h.example/?q=1 Bearer abc")
        'https://***@h.example/?q=*** Bearer ***'
        """
        try:
            if type(text) is not str:
                text = string_of(text)
            if len(text) <= _SHORT:
                if len(text) <= _HARMLESS and text.isalnum():
                    return text
                return self._short(text)
            return self._scrubbed(text)
        except Exception:
            return UNREADABLE

    def fields(self, fields: Mapping[str, object]) -> dict[str, object]:
        """Return further fields as plain data that every database stores, secrets masked.

        >>> Scrubber(PrivacySettings()).fields({"a": {"client_secret": "x", "n": float("nan")}})
        {'a': {'client_secret': '***', 'n': 'NaN'}}
        """
        result: dict[str, object] = {}
        cleaner: Cleaner | None = None
        try:
            given: dict[Any, Any] = fields if type(fields) is dict else {}
            if given is not fields or len(given) > ITEMS:
                given = _first_items(fields)
            plans, short = self._top_plans, self._short
            key: Any
            value: Any
            for key, value in given.items():
                try:
                    name, kind = plans.get(key) or self._top_plan(key)
                    if kind is _PLAIN and type(value) is str and len(value) <= _SHORT:
                        value = short(value)
                    elif kind is _LEFT_OUT:
                        continue
                    elif kind is not _PLAIN or not (
                        value is None
                        or type(value) is bool
                        or (type(value) is int and -_INTEGER < value < _INTEGER)
                    ):
                        cleaner = cleaner or self._cleaner()
                        value = cleaner.field(kind, value)
                except Exception:
                    name = value = UNREADABLE
                if name is not key and name in result:
                    name = unused(name, result)
                result[name] = value
            if not NAMED.isdisjoint(result):
                mask_named_value(result, lambda name: self._plan(name)[1] is Kind.SECRET)
        except Exception:
            result[UNREADABLE] = UNREADABLE
        return result

    def query(self, text: object, dialect: str | None = None) -> QueryText:
        """Return the type of a statement, its text without values, and a hash that groups it.

        ``dialect`` is SQLAlchemy's name. In doubt about where a literal ends there is neither text nor hash.

        >>> Scrubber(PrivacySettings()).query("SELECT a FROM t WHERE b IN ('x', 'y')", "postgresql")[:2]
        ('SELECT', 'SELECT a FROM t WHERE b IN (?)')
        """
        try:
            return self._statements.query(string_of(text), dialect)
        except Exception:
            return _NO_QUERY

    def ip(self, value: object) -> str | None:
        """Return an IP address as the setting ``ip`` leaves it; None if it is no address, or is dropped.

        >>> Scrubber(PrivacySettings()).ip("203.0.113.7")
        '203.0.113.0'
        """
        try:
            if value is None or self.settings.ip == "drop":
                return None
            if type(value) is str and self.settings.ip == "cut":
                found = cut_ipv4(value)
                if found is not None:
                    return found
            address = _parsed(value if type(value) is str else string_of(value))
            if address is None:
                return None
            if self.settings.ip == "cut":
                return cut_address(address)
            if self.settings.ip == "hash":
                return self._hasher.hash_of_day(str(address), self._clock())
            return str(address)
        except Exception:
            return None

    def email(self, value: object) -> EmailParts:
        """Return domain and keyed hash of an e-mail address, as the setting ``email`` leaves them.

        Of several addresses in a list, the first one.

        >>> parts = Scrubber(PrivacySettings(), salt=b"key").email("Bob <bob@example.com>")
        >>> parts.domain, len(parts.hash or "")
        ('example.com', 32)
        """
        try:
            if isinstance(value, list | tuple | set | frozenset):
                value = next(iter(value), "")
            parsed = parsed_email(string_of(value))
            if parsed is None or self.settings.email == "drop":
                return _NO_EMAIL
            address, domain = parsed
            if self.settings.email == "domain":
                return EmailParts(storable(domain), None)
            return EmailParts(storable(domain), self._hasher.hash(address))
        except Exception:
            return _NO_EMAIL

    def url(self, value: object) -> str:
        """Return a URL, absolute or relative, without user info, values of the query and fragment.

        >>> Scrubber(PrivacySettings()).url("https://u:p@api.example/v1/charges?key=k&n=2#f")
        'https://***@api.example/v1/charges?key=***&n=***#***'
        """
        try:
            text = value if type(value) is str else string_of(value)
            return self._short_url(text) if len(text) <= _SHORT else self._scrubbed_url(text)
        except Exception:
            return UNREADABLE

    def user_id(self, value: object) -> str:
        """Return a user's id: an integer as it is, an e-mail address as ``hash@domain``, else a string.

        >>> Scrubber(PrivacySettings()).user_id(4111111111111111)
        '4111111111111111'
        """
        try:
            if isinstance(value, int) and not isinstance(value, bool):
                return self.text(str(int.__add__(value, 0))) if abs(value) >= 2**64 else int.__repr__(value)
            text = string_of(value)
            if text.isdigit():  # not "order 4711": an id of digits alone is a card number only if it is one
                return MASK if is_card_number(int(text[:_SHORT])) else text[:_SHORT]
            return self._email_field(text)
        except Exception:
            return UNREADABLE

    def is_secret(self, name: str) -> bool:
        """Return whether a value under this name is masked.

        >>> Scrubber(PrivacySettings()).is_secret("cardPin")
        True
        """
        try:
            return self._is_secret(name)
        except Exception:
            return True

    def fit(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return an event of at most ``max_event_bytes`` as JSON: its largest further fields are cut.

        >>> event = {"id": "e-1", "properties": {"a": "x" * 70_000, "b": 1}}
        >>> Scrubber(PrivacySettings()).fit(event)["properties"]
        {'a': '…[cut]', 'b': 1}
        """
        try:
            return fit(event, self.settings.max_event_bytes)
        except Exception:
            return event

    def _scrubbed(self, text: str) -> str:
        limit = self.settings.max_text
        if len(text) > limit + _MARGIN:
            text = text[: limit + _MARGIN].rstrip("0123456789- ")
        text = mask_text(storable(text), self._is_secret, emails=self._emails)
        return text if len(text) <= limit else text[:limit] + CUT

    def _scrubbed_url(self, url: str) -> str:
        return self._scrubbed(mask_url(storable(url[: self.settings.max_text + _MARGIN])))

    def _query_text(self, text: str) -> str:
        return mask_text(storable(text), lambda name: False, emails=self._emails)

    def _cleaner(self) -> Cleaner:
        return Cleaner(
            text=self.text,
            key=self._plan,
            address=self._address_field,
            email=self._email_field,
            characters=16 * self.settings.max_event_bytes,
        )

    def _plan(self, key: object) -> tuple[str, Kind]:
        """Return the clean form of a key, and what is done with its value."""
        plan = self._plans.get(key) if type(key) is str else None
        if plan is None:
            name = string_of(key)[:_LONGEST_KEY]
            plan = self.text(name), self._keys.kind(name)
            if len(self._plans) >= _CACHED:
                self._plans.clear()
            if type(key) is str and len(key) <= _SHORT:
                self._plans[key] = plan
        return plan

    def _top_plan(self, key: object) -> tuple[str, Kind]:
        """Return the same for a key of the event itself, where ``mode = "allow"`` leaves fields out."""
        plan = self._plan(key)
        if self.settings.mode == "allow" and not self._keys.is_kept(plan[0]):
            plan = plan[0], Kind.LEFT_OUT
        if type(key) is str and len(key) <= _SHORT:
            if len(self._top_plans) >= _CACHED:
                self._top_plans.clear()
            self._top_plans[key] = plan
        return plan

    def _address_field(self, value: object) -> str:
        """Return the addresses under a key such as ``client_ip``: one, or a list as a proxy writes it."""
        parts = [part.strip() for part in string_of(value).split(",")[:ITEMS]]
        if not all(map(parsed_address, parts)):
            return self.text(value)
        return ", ".join(self.ip(part) or MASK for part in parts)

    def _email_field(self, value: object) -> str:
        """Return ``hash@domain`` for the address under a key such as ``email``."""
        text = string_of(value)
        if not self._emails or parsed_email(text) is None:
            return self.text(text)
        parts = self.email(text)
        return MASK if parts.domain is None else f"{parts.hash or MASK}@{parts.domain}"


def _process_salt() -> bytes:
    text = os.environ.get(SALT_VARIABLE)
    return os.fsencode(text) if text else _random_salt()


@functools.cache
def _random_salt() -> bytes:
    return secrets.token_bytes(32)


_parsed = functools.lru_cache(_CACHED)(parsed_address)


def _first_items(fields: Mapping[str, object]) -> dict[str, object]:
    items = list(islice(fields.items(), ITEMS + 1))
    result = dict(items[:ITEMS])
    if len(items) > ITEMS:
        result[CUT] = CUT
    return result
