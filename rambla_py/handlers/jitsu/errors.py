"""Jitsu's answers: which events were taken, which were refused, and which may be sent again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from rambla_py.errors import AccessError, DeliveryError, PermanentError, RejectedError, UnknownOutcomeError
from rambla_py.handlers._http.batches import Verdict
from rambla_py.handlers._http.errors import RefusedError
from rambla_py.handlers._http.exchange import Answer

__all__ = ["verdict"]

_NAMED = re.compile(r"Message ID: ([A-Za-z0-9._-]{1,64}): (.*)", re.DOTALL)
_RETRIED = re.compile(r"\b(?:producer error|panic)\b", re.IGNORECASE)
_NO_STREAM = "stream not found"
_REASON = re.compile(r"(?:error# \w+: )?([A-Za-z][A-Za-z _-]{0,60})")
"""A kind of error, which is masked where Jitsu thinks that the details are not for clients."""
_HALVES = 400
"""A status whose batch is divided: what is wrong concerns the content of some events."""


def verdict(answer: Answer, ids: Sequence[str], where: str) -> Verdict:
    """Return what a 2xx answer to the events with these ids means.

    ``{"ok": false, "errors": ["Message ID: X: why"]}`` names the refused events: a ``PermanentError`` each,
    or a ``RejectedError`` where the server could not store it just now. An error without the id of one of
    them is a ``RefusedError``, after which halves are sent. ``{"error": ...}`` refuses the whole request.
    """
    if not answer.whole:
        return UnknownOutcomeError(f"{where}: the answer broke off", connection_lost=False)
    found = _decoded(answer.body)
    if found is None:
        return AccessError(f"{where}: the answer is not Jitsu's; do url and path lead to its ingestion API?")
    if found.get("error"):
        return _request_error(str(found["error"]), where)
    if found.get("ok") is not False:
        return {}
    return _of_errors([str(error) for error in found.get("errors") or ()], ids, where)


def _of_errors(errors: Sequence[str], ids: Sequence[str], where: str) -> Verdict:
    if len(ids) == 1:
        return {0: _event_error(_reason_of(errors[0]) if errors else "", where)}
    named = dict(_named(errors))
    if not named or len(named) < len(errors) or not named.keys() <= set(ids):
        # Some refusal belongs to no event that was sent: only smaller batches show to which.
        return RefusedError(f"{where}: refused events without their ids", _HALVES).with_detail(
            str(errors[:3])
        )
    return {at: _event_error(named[name], where) for at, name in enumerate(ids) if name in named}


def _named(errors: Sequence[str]) -> Iterator[tuple[str, str]]:
    for error in errors:
        match = _NAMED.fullmatch(error)
        if match is not None:
            yield match[1], match[2]


def _reason_of(error: str) -> str:
    match = _NAMED.fullmatch(error)
    return error if match is None else match[2]


def _event_error(reason: str, where: str) -> DeliveryError:
    kind = RejectedError if _RETRIED.search(reason) else PermanentError
    return kind(f"{where}: refused the event: {_shown(reason)}").with_detail(reason)


def _request_error(reason: str, where: str) -> DeliveryError:
    if _NO_STREAM in reason.lower():
        return AccessError(f"{where}: stream not found; is write_key one of a server key of this site?")
    return PermanentError(f"{where}: refused the request: {_shown(reason)}").with_detail(reason)


def _shown(reason: str) -> str:
    """Return the beginning of a reason, up to what may quote the event."""
    match = _REASON.match(reason.strip())
    return "no reason given" if match is None else match[1].strip()


def _decoded(body: bytes) -> Mapping[str, Any] | None:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
