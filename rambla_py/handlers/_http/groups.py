"""Deliveries grouped by what they may share in one request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["TRACE_FIELDS", "common_headers", "grouped", "wrapped"]

TRACE_FIELDS: Final = frozenset({"traceparent", "tracestate"})
"""The headers of a trace context, which mean nothing without each other."""

_TRACING: Final = TRACE_FIELDS | {"baggage"}
"""Headers that belong to one message only, and that are no reason to send it apart."""


def grouped(
    deliveries: Sequence[Delivery], *, with_headers: bool
) -> tuple[list[list[Delivery]], list[list[Delivery]]]:
    """Return the deliveries in groups with equal options, and equal headers if ``with_headers``.

    Headers of tracing do not count. Those that must not share a request are apart, each a group.
    """
    apart = [delivery for delivery in deliveries if delivery.attempts > 1 and delivery.alone]
    if not apart:
        return _alike(deliveries, with_headers), []
    left = set(apart)
    together = [delivery for delivery in deliveries if delivery not in left]
    return _alike(together, with_headers), [[delivery] for delivery in apart]


def _alike(deliveries: Sequence[Delivery], with_headers: bool) -> list[list[Delivery]]:
    groups: dict[tuple[str, str], list[Delivery]] = {}
    options: Any = groups  # equal to no options
    headers: Any = None
    written, group = "", []
    for delivery in deliveries:
        # Deliveries without options of their own share the channel's object.
        same = delivery.options is options
        if not same or (with_headers and delivery.headers is not headers and delivery.headers != headers):
            if not same:
                options, written = delivery.options, repr(delivery.options)
            headers = delivery.headers
            group = groups.setdefault((written, _written(headers) if with_headers else ""), [])
        group.append(delivery)
    return list(groups.values())


def common_headers(deliveries: Sequence[Delivery]) -> Mapping[str, Any]:
    """Return the headers of a group's request: those of tracing only where all messages have the same."""
    headers = deliveries[0].headers
    if len(deliveries) == 1 or not any(name.lower() in _TRACING for name in headers):
        return headers
    others = {
        name.lower()
        for name, value in headers.items()
        if name.lower() in _TRACING and any(other.headers.get(name) != value for other in deliveries)
    }
    if others & TRACE_FIELDS:
        others |= TRACE_FIELDS
    return {name: value for name, value in headers.items() if name.lower() not in others}


def wrapped(events: Sequence[bytes], between: bytes, start: bytes = b"", end: bytes = b"") -> bytes:
    """Return one body of all events; it copies them once, as a body is large.

    >>> wrapped([b"1", b"2"], b",", b"[", b"]")
    b'[1,2]'
    """
    pieces = [*events]
    pieces[0] = start + pieces[0]
    pieces[-1] += end
    return between.join(pieces)


def _written(headers: Mapping[str, Any]) -> str:
    return repr(sorted(pair for pair in headers.items() if pair[0].lower() not in _TRACING))
