"""Deliveries of stored rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rambla_py.delivery import LiveDelivery
from rambla_py.delivery_history import Stored
from rambla_py.errors import OptionError, UnknownOutcomeError
from rambla_py.outbox.feed import ALONE_AFTER
from rambla_py.outbox.letters import SetAsideError
from rambla_py.outbox.row_of import body_of_row, check_given, decoded
from rambla_py.outbox.rows import Progress, Row

if TYPE_CHECKING:
    from rambla_py.outbox.feed import Feed, Source
    from rambla_py.receipt import Receipt
    from rambla_py.runtime.target.target import Target

__all__ = ["restored"]


def restored(feed: Feed, row: Row, source: Source, adoption: int, receipt: Receipt | None, slot: int) -> None:
    """Put a stored row into its target's mailbox as a delivery, or end it if it cannot be attempted."""
    target = feed.target
    stored = Stored(row, adoption, source.crashes(row))
    try:
        progress = _progress(row)
        stored.fallback_of = progress.fallback_of
        delivery = _built(target, row, receipt, slot)
    except SetAsideError as error:
        _end(target, stored, receipt, slot, error)
        return
    delivery.store(stored)
    row.forget_payload()
    delivery.resume(
        attempts=progress.attempts,
        failures=progress.failures,
        left=progress.left,
        rounds=progress.rounds,
        maybe_sent=progress.maybe_sent,
    )
    if row.started and target.config.on_unknown == "report" and source.adopted:
        target.counters.feed(1)
        reason = "the process ended during the attempt"
        target.completion.finish(delivery, "unknown", UnknownOutcomeError(reason))
        return
    due = _due(row)
    if stored.crashes >= ALONE_AFTER:
        if progress.alone and not _spend_attempt(delivery, progress):
            reason = f"its process died {stored.crashes} times while it was in flight"
            _finish(target, delivery, SetAsideError("crash", reason))
            return
        if due is None:
            feed.alone = stored
    target.admission.feed(delivery, due)


def _progress(row: Row) -> Progress:
    if not row.sound:
        raise SetAsideError("unreadable", "the stored message is damaged: its checksum is wrong")
    try:
        return Progress.load(row.progress)
    except ValueError as error:
        raise SetAsideError("unreadable", str(error)) from None


def _built(target: Target, row: Row, receipt: Receipt | None, slot: int) -> LiveDelivery:
    try:
        given, payload = row.given(), decoded(row)
    except ValueError as error:
        raise SetAsideError("unreadable", f"the stored message cannot be read: {error}") from None
    try:
        check_given(target.config, given)
        draft, key, own_id, headers = target.admission.drafts.check(given)
    except OptionError as error:
        raise SetAsideError(
            "options", f"its options do not fit the configuration any more: {error}"
        ) from None
    age_s = max(0.0, time.time() - row.accepted)
    return draft.build(
        payload,
        receipt,
        -1,
        time.monotonic() - age_s,
        key,
        own_id,
        headers,
        slot,
        False,
        body_of_row(row, payload, draft.takes, draft.policy),
    )


def _due(row: Row) -> float | None:
    """Return when it may be attempted, on the monotonic clock; never later than was asked for."""
    if row.due is None:
        return None
    wait_s = min(row.due - time.time(), row.wait_s)
    return time.monotonic() + wait_s if wait_s > 0 else None


def _spend_attempt(delivery: LiveDelivery, progress: Progress) -> bool:
    """Count the attempt that its process did not survive; return whether another one is left."""
    left = (progress.left if progress.left >= 0 else delivery.policy.retries) - 1
    delivery.resume(
        attempts=progress.attempts + 1,
        failures=progress.failures + 1,
        left=max(left, 0),
        rounds=progress.rounds,
        maybe_sent=True,
    )
    return left >= 0


def _end(target: Target, stored: Stored, receipt: Receipt | None, slot: int, error: SetAsideError) -> None:
    base = target.admission.drafts.base
    row = stored.row
    delivery = base.build(None, receipt, key=row.key, given_id=row.id, slot=slot)
    stored.readable = False  # else a fallback would deliver None, and the row would be removed
    delivery.store(stored)
    try:
        Progress.load(row.progress)
    except ValueError:
        row.progress = None
    _finish(target, delivery, error)


def _finish(target: Target, delivery: LiveDelivery, error: SetAsideError) -> None:
    target.counters.feed(1)
    target.completion.finish(delivery, "fatal", error)
