"""This module finds the deliveries that may share a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["alike"]


def alike(deliveries: Sequence[Delivery], *, with_headers: bool) -> list[list[Delivery]]:
    """Return the deliveries in groups of the same options, and the same headers where these count."""
    groups: dict[str, list[Delivery]] = {}
    options: Any = None
    headers: Any = None
    group: list[Delivery] = []
    for delivery in deliveries:
        # Those without options of their own have the channel's, one object for all.
        if delivery.options is not options or (with_headers and delivery.headers != headers):
            options, headers = delivery.options, delivery.headers
            name = repr((options, sorted(headers.items()) if with_headers else None))
            group = groups.setdefault(name, [])
        group.append(delivery)
    return list(groups.values())
