"""Where a channel sends to, in the terms of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

__all__ = ["Described"]


class Described(msgspec.Struct, frozen=True):
    """Where a channel sends to: what ``Handler.describe`` returns, for the attributes of spans.

    ``system`` is the ``messaging.system``, ``destination`` the ``messaging.destination.name``, ``address``
    and ``port`` those of the server. None or an empty string: not known. ``attributes`` are further ones, by
    name. None of them may hold a secret.

    >>> Described("kafka", "orders", "broker", 9092).destination
    'orders'
    """

    system: str = "rambla"
    destination: str = ""
    address: str | None = None
    port: int | None = None
    attributes: Mapping[str, str | int] = MappingProxyType({})
