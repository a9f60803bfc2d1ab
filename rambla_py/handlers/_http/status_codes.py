"""What the status of an answer means for the message that was sent."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Collection
from datetime import UTC
from http import HTTPStatus
from typing import NamedTuple

from rambla_py.errors import (
    AccessError,
    DeliveryError,
    PermanentError,
    RejectedError,
    UnavailableError,
    UnknownOutcomeError,
)
from rambla_py.handlers._http.exchange import Answer

__all__ = ["FOLLOWED", "LONGEST_RETRY_AFTER_S", "StatusRules", "excerpt", "refusal", "retry_after_s"]

FOLLOWED = frozenset({307, 308})
"""Redirects that keep method and body."""

LONGEST_RETRY_AFTER_S = 300.0
"""Seconds; a server that asks for a longer wait is tried again after this one."""

_RETRIED = frozenset({408, 425})
_NO_ANSWER_FROM_BEHIND = frozenset({502, 504})
_NEVER = frozenset({501, 505})
_EXCERPT = 300


class StatusRules(NamedTuple):
    """Which statuses say that the server is unavailable, or refuses the credentials.

    ``scope`` names what is unavailable (``UnavailableError``).
    """

    unavailable: Collection[int] = frozenset({429, 503})
    access: Collection[int] = frozenset({401, 407})
    scope: str = "target"


_DEFAULT_RULES = StatusRules()


def refusal(
    answer: Answer, what: str, rules: StatusRules = _DEFAULT_RULES, *, redact: Callable[[str], str] = str
) -> DeliveryError | None:
    """Return the error of an answer, None for a success (2xx). ``what`` names the request.

    Only the error's ``detail`` quotes the body, which may contain the data that was sent. 4xx is permanent
    except 408, 425 and what ``rules`` name; 501 and 505 are permanent, too; after 502 and 504 the outcome is
    unknown, as the server behind the gateway may have taken the message; other 5xx are retried. 3xx is
    permanent, as the request was not carried out where it was sent.
    """
    if 200 <= answer.status < 300:
        return None
    error = _error(answer, what, rules, redact).with_detail(excerpt(answer.body))
    error.status = answer.status
    return error


def _error(answer: Answer, what: str, rules: StatusRules, redact: Callable[[str], str]) -> DeliveryError:
    status = answer.status
    text = f"{what}: {status} {_phrase(status)}"
    if status in rules.access:
        return AccessError(text)
    if status in rules.unavailable:
        return UnavailableError(text, scope=rules.scope, retry_after_s=_wait_of(answer))
    if status in _NO_ANSWER_FROM_BEHIND:
        return UnknownOutcomeError(f"{text}; the message may have arrived", connection_lost=False)
    if 300 <= status < 400:
        return PermanentError(text + _redirect(answer, redact))
    if status in _RETRIED or (status >= 500 and status not in _NEVER):
        rejected = RejectedError(text)
        rejected.retry_after_s = _wait_of(answer)
        return rejected
    return PermanentError(text)


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds to wait that a ``Retry-After`` header asks for, as a number or a date; at most 300.

    None if it asks for none, or names a time that has passed; the back-off then keeps the retries apart.

    >>> retry_after_s("120", now=0.0), retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", now=10.0)
    (120.0, 50.0)
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return min(float(value[:10]), LONGEST_RETRY_AFTER_S) or None
    until = _epoch_of(value)
    return None if until is None or until <= now else min(until - now, LONGEST_RETRY_AFTER_S)


def excerpt(body: bytes) -> str:
    """Return the beginning of a body on one line."""
    text = " ".join(body[: 4 * _EXCERPT].decode(errors="replace").split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _EXCERPT else f"{shown[:_EXCERPT]}..."


def _wait_of(answer: Answer) -> float | None:
    now = _epoch_of(answer.headers.get("date", "")) or time.time()
    return retry_after_s(answer.headers.get("retry-after"), now)


def _redirect(answer: Answer, redact: Callable[[str], str]) -> str:
    location = answer.headers.get("location")
    if not location:
        return ""
    why = "redirects are off or exhausted" if answer.status in FOLLOWED else "only 307 and 308 are followed"
    return f", to {redact(location.partition('?')[0])}; {why}"


def _epoch_of(date: str) -> float | None:
    try:
        found = email.utils.parsedate_to_datetime(date)
        # Without a zone, as C's asctime writes it, it is UTC (RFC 9110, 5.6.7) and not local time.
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(no standard status)"
