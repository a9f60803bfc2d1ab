"""This module delivers a batch to a cluster: the parts of messages out, one answer for each message back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.errors import ConnectionLostError, DeliveryError, UnknownOutcomeError
from rambla_py.handlers.redis.cluster import ClusterWire
from rambla_py.handlers.redis.errors import UnservedError
from rambla_py.handlers.redis.replicas import Wait
from rambla_py.handlers.redis.routes import Part, router_for

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["scatter"]


def scatter(
    messages: Sequence[Delivery],
    wire: ClusterWire,
    *,
    channel: str,
    max_bulk_bytes: int,
    wait: Wait | None,
) -> list[Any]:
    """Return a result or an error for each message, in order; what cannot be packed fails alone."""
    answers: list[Any] = [None] * len(messages)
    parts: list[Part] = []
    spans: list[tuple[int, int, int]] = []
    options, route = None, None
    for place, message in enumerate(messages):
        try:
            if route is None or message.options is not options:
                options = message.options
                route = router_for(options, channel, max_bulk_bytes)
            routed = route(message)
        except Exception as error:  # what a payload's own code raises is the failure of its message alone
            answers[place] = error
            continue
        spans.append((place, len(parts), len(parts) + len(routed)))
        parts += routed
    replies = wire.exchange(parts, wait)
    for place, first, end in spans:
        answer = replies[first] if end == first + 1 else _of_all(replies[first:end])
        if isinstance(answer, UnservedError):
            answer = UnservedError(str(answer), _left(messages[place]))
        answers[place] = answer
    return answers


def _of_all(replies: Sequence[Any]) -> Any:
    """Return the answer of a message that had several parts: what no retry mends, then what is not known."""
    errors = [reply for reply in replies if isinstance(reply, DeliveryError)]
    if not errors:
        return replies[0]
    lost = [error for error in errors if isinstance(error, ConnectionLostError)]
    if lost and len(errors) < len(replies):
        errors.append(UnknownOutcomeError(f"written in part: {lost[0]}"))
    return min(errors, key=lambda error: (error.retryable, not isinstance(error, UnknownOutcomeError)))


def _left(message: Delivery) -> int:
    return message.policy.retries if message.left < 0 else message.left
