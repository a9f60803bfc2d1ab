"""Where a channel sends to, in the terms of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol, Self

import msgspec

from rambla_py._internal.endpoints import host_and_port

__all__ = ["Described"]


class _Handler(Protocol):
    channel: str
    settings: Any

    @classmethod
    def endpoint(cls, settings: Any) -> str | None:
        """Return the address of its server."""


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

    @classmethod
    def of(
        cls,
        handler: _Handler,
        system: str,
        destination: str | None = None,
        attributes: Mapping[str, str | int] = MappingProxyType({}),
    ) -> Self:
        """Return what a handler sends to: by default its channel, at the address of its ``endpoint``."""
        address, port = host_and_port(handler.endpoint(handler.settings))
        return cls(system, destination or handler.channel, address, port, attributes)
