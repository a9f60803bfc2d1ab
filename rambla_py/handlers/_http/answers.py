"""This module says what the status of an answer means for what was sent."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable
from datetime import UTC
from http import HTTPStatus

from rambla_py.errors import AccessError, DeliveryError, PermanentError, RejectedError
from rambla_py.handlers._http.client import Answer

__all__ = ["FOLLOWED", "excerpt", "refusal", "retry_after_s"]

FOLLOWED = frozenset({307, 308})
"""Redirects that keep method and body."""

_AGAIN = frozenset({408, 425, 429})
_EXCERPT = 300


def refusal(
    answer: Answer,
    what: str,
    *,
    access_statuses: frozenset[int] = frozenset({401, 407}),
    redact: Callable[[str], str] = str,
) -> DeliveryError | None:
    """Return the error that an answer stands for, or None for a success (2xx).

    4xx is permanent but for 408, 425 and 429; 5xx is retried, after the time that ``Retry-After`` names; 3xx
    is permanent, for the request was not carried out where it was sent. ``what`` names it for people.
    """
    status = answer.status
    if 200 <= status < 300:
        return None
    text = f"{what}: {status} {_phrase(status)}"
    if 300 <= status < 400:
        place = answer.headers.get("location")
        why = (
            "redirects are off or exhausted"
            if status in FOLLOWED
            else "of redirects 307 and 308 alone are followed"
        )
        text += f", to {redact(place)}; {why}" if place else ""
    elif told := excerpt(answer.body):
        text += f": {redact(told)}"
    if status in access_statuses:
        return AccessError(text)
    if status >= 500 or status in _AGAIN:
        rejected = RejectedError(text)
        now = _epoch_of(answer.headers.get("date", "")) or time.time()
        rejected.retry_after_s = retry_after_s(answer.headers.get("retry-after"), now)
        return rejected
    return PermanentError(text)


def retry_after_s(value: str | None, now: float) -> float | None:
    """Return the seconds to wait that a ``Retry-After`` header names, a number or a date.

    None where it names no time, or one that is over: the back-off then keeps the retries apart.

    >>> retry_after_s("120", now=0.0), retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", now=10.0)
    (120.0, 50.0)
    """
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value) or None
    until = _epoch_of(value)
    return None if until is None or until <= now else until - now


def excerpt(body: bytes) -> str:
    """Return the beginning of a body as one line of text for an error."""
    text = " ".join(body[: 4 * _EXCERPT].decode(errors="replace").split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return shown if len(shown) <= _EXCERPT else f"{shown[:_EXCERPT]}..."


def _epoch_of(date: str) -> float | None:
    try:
        found = email.utils.parsedate_to_datetime(date)
        # Without a zone, as C's asctime writes it, it is UTC (RFC 9110, 5.6.7) and not the time of here.
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(a status without a name)"
