"""Stand-in for the privacy package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

__all__ = ["EmailParts", "PrivacySettings", "QueryText", "Scrubber"]


class PrivacySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Nothing yet."""

    max_text: int = 8192


class QueryText(NamedTuple):
    """A statement without values."""

    type: str
    text: str
    hash: str


class EmailParts(NamedTuple):
    """An address without its name."""

    domain: str
    hash: str


class Scrubber:
    """Masks nothing yet."""

    def __init__(self, settings: PrivacySettings, *, salt: bytes | None = None) -> None:
        self._settings = settings

    def text(self, value: str) -> str:
        """Return the string."""
        return value[: self._settings.max_text]

    def fields(self, fields: Mapping[str, object]) -> dict[str, Any]:
        """Return the fields."""
        return dict(fields)

    def query(self, text: str, dialect: str | None = None) -> QueryText:
        """Return the type of a statement."""
        return QueryText(text.split()[0].upper() if text.split() else "", "", "")

    def ip(self, value: object) -> str | None:
        """Return the address."""
        return str(value)

    def email(self, value: object) -> EmailParts:
        """Return the domain."""
        return EmailParts(str(value).rpartition("@")[2], "")

    def url(self, value: str) -> str:
        """Return the URL."""
        return value

    def fit(self, event: dict[str, Any]) -> dict[str, Any]:
        """Return the event."""
        return event
