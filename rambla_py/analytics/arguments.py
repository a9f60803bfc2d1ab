"""Arguments of the ``track_*`` methods, checked, scrubbed and made the own fields of an event."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from rambla_py._internal.redaction import MASK
from rambla_py.analytics.columns import boolean, converter, text
from rambla_py.analytics.currencies import CURRENCIES
from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.privacy import CUT, UNREADABLE, Scrubber

__all__ = ["OwnFields", "checked"]

_number, _count = converter("double", 0), converter("bigint", 0)
_CACHED, _METHODS, _SHORT = 4_096, 64, 256
_amount = converter("numeric(38, 9)")


class OwnFields:
    """Makes the own fields of each event; raises ``AnalyticsError`` with the name of a wrong one.

    >>> from rambla_py.analytics.privacy import PrivacySettings
    >>> OwnFields(Scrubber(PrivacySettings())).payment("charge", 5, "eur", True)["payment_currency"]
    'EUR'
    """

    def __init__(self, scrubber: Scrubber) -> None:
        self.scrubber, self._scrub = scrubber, scrubber.text
        # A hash changes with the day; a prefix does not.
        self._ip = scrubber.ip if scrubber.settings.ip == "hash" else lru_cache(_CACHED)(scrubber.ip)
        # Reading a dictionary takes half the time of lru_cache.
        self._methods: dict[str, str] = {}
        self._texts: dict[str, str] = {}

    def api_request(
        self, method: Any, path: Any, user_agent: Any, ip_address: Any
    ) -> tuple[str, str, str | None, str | None]:
        """Return the strings of a request; its numbers are checked already."""
        # The types are looked at here, because this is the hot path and each call costs.
        texts = self._texts
        if type(method) is not str or type(path) is not str:
            method, path = checked(method, "method"), checked(path, "path")
        if user_agent is not None:
            if type(user_agent) is not str:
                user_agent = checked(user_agent, "user_agent")
            user_agent = texts.get(user_agent) or self._scrubbed(user_agent)
        if ip_address is not None:
            ip_address = self._ip(ip_address) if type(ip_address) is str else self.scrubber.ip(ip_address)
        return (
            self._methods.get(method) or self._scrubbed_method(method),
            texts.get(path) or self._scrubbed(path),
            user_agent,
            ip_address,
        )

    def api_error(self, error: Any, method: Any, path: Any, status_code: Any) -> dict[str, Any]:
        """Return the fields of an error, which may be a string."""
        kind, message = _parts_of(error)
        scrub = self.scrubber.text
        return {
            "error_type": scrub(kind),
            "error_message": scrub(message),
            "method": None if method is None else scrub(checked(method, "method")).upper(),
            "path": None if path is None else scrub(checked(path, "path")),
            "status_code": checked(status_code, "status_code", _count),
        }

    def db_query(self, query: Any, duration_ms: Any, success: Any, dialect: str | None) -> dict[str, Any]:
        """Return the fields of a statement."""
        duration = checked(duration_ms, "query_duration_ms", _number)
        parts = self.scrubber.query(query if type(query) is str else str(query), dialect)
        return {
            "query_type": parts.type,
            "query_duration_ms": duration,
            "query_success": checked(success, "query_success", boolean),
            "query_text": parts.text,
            "query_hash": parts.hash,
        }

    def db_connection(self, action: Any, duration_ms: Any, success: Any) -> dict[str, Any]:
        """Return the fields of a connection."""
        return {
            "connection_action": self._text(action, "connection_action"),
            "connection_duration_ms": checked(duration_ms, "connection_duration_ms", _number),
            "connection_success": checked(success, "connection_success", boolean),
        }

    def user_auth(self, action: Any, user_id: Any, success: Any) -> dict[str, Any]:
        """Return the fields of an authentication."""
        return {
            "auth_action": self._text(action, "auth_action"),
            "user_id": self.user(user_id),
            "auth_success": checked(success, "auth_success", boolean),
        }

    def payment(self, action: Any, amount: Any, currency: Any, success: Any) -> dict[str, Any]:
        """Return the fields of a payment."""
        code = str(checked(currency, "payment_currency")).upper()
        if code not in CURRENCIES:
            raise AnalyticsError("expected an ISO 4217 code such as EUR", field="payment_currency")
        return {
            "payment_action": self._text(action, "payment_action"),
            "payment_amount": checked(amount, "payment_amount", _amount),
            "payment_currency": code,
            "payment_success": checked(success, "payment_success", boolean),
        }

    def email_send(self, to: Any, template: Any, success: Any) -> dict[str, Any]:
        """Return the fields of a mail."""
        parts = self.scrubber.email(checked(to, "to"))
        return {
            "email_domain": parts.domain,
            "email_hash": parts.hash,
            "email_template": self._text(template, "email_template"),
            "email_success": checked(success, "email_success", boolean),
        }

    def file_operation(self, operation: Any, file_type: Any, file_size: Any, success: Any) -> dict[str, Any]:
        """Return the fields of an operation on a file."""
        return {
            "file_operation": self._text(operation, "file_operation"),
            "file_type": self._text(file_type, "file_type"),
            "file_size": checked(file_size, "file_size", _count),
            "file_success": checked(success, "file_success", boolean),
        }

    def external_api_call(
        self, service: Any, endpoint: Any, duration_ms: Any, success: Any
    ) -> dict[str, Any]:
        """Return the fields of a call to a service."""
        return {
            "api_service": self._text(service, "api_service"),
            "api_endpoint": self.scrubber.url(checked(endpoint, "api_endpoint")),
            "api_duration_ms": checked(duration_ms, "api_duration_ms", _number),
            "api_success": checked(success, "api_success", boolean),
        }

    def numbers(self, status_code: Any, duration_ms: Any) -> tuple[int, float]:
        """Return the numbers of a request."""
        return checked(status_code, "status_code", _count), checked(duration_ms, "duration_ms", _number)

    def user(self, user_id: Any) -> str | None:
        """Return the id of a user; an integer becomes a string."""
        if user_id is None:
            return None
        if isinstance(user_id, int) and not isinstance(user_id, bool):
            return self.scrubber.user_id(user_id)
        return self.scrubber.user_id(checked(user_id, "user_id"))

    def deletable_user(self, user_id: Any) -> str:
        """Return the id of a user as it is recorded, if no other user has the same there."""
        recorded = self.user(user_id)
        if not recorded:
            raise AnalyticsError("expected the id of a user", field="user_id")
        if any(mark in recorded for mark in (MASK, CUT, UNREADABLE)):
            raise AnalyticsError(
                "events hold this id masked or cut, as those of other users; delete them by another column",
                field="user_id",
            )
        return recorded

    def names(self, event: Any, category: Any, action: Any) -> tuple[str, str, str]:
        """Return the name, the category and the action of a custom event."""
        return (
            self._text(event, "event"),
            self._text(category, "event_category"),
            self._text(action, "event_action"),
        )

    def _scrubbed(self, text: str) -> str:
        """Return a string with its secrets masked, and keep it if it is short."""
        return _kept(self._texts, _CACHED, text, self._scrub(text))

    def _scrubbed_method(self, method: str) -> str:
        return _kept(self._methods, _METHODS, method, self._scrub(method).upper())

    def _text(self, value: Any, field: str) -> str:
        return self.scrubber.text(checked(value, field))


def checked(value: Any, field: str, convert: Callable[[Any], Any] = text) -> Any:
    """Return a value converted; raises ``AnalyticsError`` with the name of the field.

    >>> checked("charge", "payment_action")
    'charge'
    """
    try:
        return convert(value)
    except ValueError as error:
        raise AnalyticsError(str(error), field=field) from None


def _kept(known: dict[str, str], most: int, text: str, clean: str) -> str:
    if len(text) <= _SHORT:
        if len(known) >= most:
            known.clear()
        known[text] = clean
    return clean


def _parts_of(error: Any) -> tuple[str, str]:
    if isinstance(error, str):
        return "Error", text(error)
    if not isinstance(error, BaseException):
        raise AnalyticsError(f"expected an exception; got {type(error).__name__}", field="error")
    try:
        return type(error).__qualname__, str(error)
    except Exception:  # the application's
        return type(error).__qualname__, ""
