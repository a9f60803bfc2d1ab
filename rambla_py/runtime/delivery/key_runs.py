"""Runs: what happens to deliveries of a batch that follow one of their key that failed, or must wait."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rambla_py._internal.tracebacks import drop_tracebacks
from rambla_py.errors import ConnectionLostError
from rambla_py.message import Ok
from rambla_py.runtime.delivery.answers import classify, error_of, unwrapped

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.runtime.target.target import Target

__all__ = ["hold_back", "wait_until"]

_WITHOUT_ANSWER = ("lost", "unknown", "overdue batch")


def hold_back(
    target: Target, batch: Sequence[LiveDelivery], answers: Sequence[tuple[LiveDelivery, Any]]
) -> list[tuple[LiveDelivery, Any]]:
    """Return the answers to process, in order; deliveries behind a failed one of their key wait again.

    ``answers`` are those of ``batch`` that may mean a failure; the caller holds the claim on the batch. Of
    each key, only the first failed delivery is processed. It holds the lane from now on, and the others go
    back behind it. A follower that may have been sent ends as ``unknown`` where the channel reports that; if
    the first ends so as well, the last one holds the lane.
    """
    failed: dict[str, LiveDelivery] = {}
    reported: set[str] = set()
    kept: list[tuple[LiveDelivery, Any]] = []
    followers: list[LiveDelivery] = []
    for delivery, answer in answers:
        key = delivery.key
        if key is None or issubclass(type(answer), Ok):
            kept.append((delivery, answer))
        elif key not in failed:
            failed[key] = delivery
            kept.append((delivery, answer))
            if _is_reported(target, answer):
                reported.add(key)
        elif _is_reported(target, answer):
            kept.append((delivery, answer))
            if key in reported:
                failed[key] = delivery
        else:
            followers.append(_follower(target, delivery, answer))
    for holder in batch:
        if holder.holds_lane and holder.key in failed and failed[holder.key] is not holder:
            holder.pass_lane_to(failed[holder.key])
    _put_behind(target, followers)
    return kept


def wait_until(
    due: float, target: Target, batch: Sequence[LiveDelivery], waiting: Sequence[LiveDelivery]
) -> list[LiveDelivery]:
    """Let ``waiting`` of a batch wait until ``due``, before an attempt; return those to attempt now.

    Deliveries behind one of their key that waits are not among these.
    """
    ids, keys = set(map(id, waiting)), set[str]()
    others: list[LiveDelivery] = []
    followers: list[LiveDelivery] = []
    for delivery in batch:
        if id(delivery) not in ids and delivery.key not in keys:
            others.append(delivery)
            continue
        if delivery.key is not None:
            keys.add(delivery.key)
        if target.takes_runs and delivery.key is not None and not delivery.holds_lane:
            followers.append(delivery)
        else:
            target.park(delivery, due)
    _put_behind(target, followers)
    return others


def _put_behind(target: Target, followers: Sequence[LiveDelivery]) -> None:
    if followers:
        target.mailbox.hold_back(followers)
        if target.state.closed:
            target.wakeup.wake()  # which drops them


def _is_reported(target: Target, answer: Any) -> bool:
    """Return whether a delivery with this answer ends as ``unknown``: see ``ResultProcessor``."""
    return _may_be_sent(unwrapped(answer)) and (target.config.on_unknown == "report" or target.state.closed)


def _may_be_sent(answer: Any) -> bool:
    return classify(answer) in _WITHOUT_ANSWER and not isinstance(answer, ConnectionLostError)


def _follower(target: Target, delivery: LiveDelivery, answer: Any) -> LiveDelivery:
    """Return a delivery for its next attempt, once the failed one has ended."""
    answer = unwrapped(answer)
    if classify(answer) not in _WITHOUT_ANSWER:
        delivery.undo_attempt()
        return delivery
    sent = _may_be_sent(answer)
    if sent:
        delivery.unanswered()
    error = error_of(answer)
    target.counters.note(f"lost:{type(error).__name__}", error)
    target.completion.fail_attempt(delivery, error, time.monotonic())
    if not target.collaborators.debug:
        drop_tracebacks(error)
    return delivery.after_loss(error, written=sent)
