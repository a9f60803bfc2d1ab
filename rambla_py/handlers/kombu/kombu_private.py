"""The private part of kombu that the handler uses: the queues that a virtual exchange routes to.

``kombu>=5.5,<5.8`` is pinned for it. A test checks it by name.
"""

from __future__ import annotations

from typing import Any

from kombu.transport.virtual import Channel as VirtualChannel

__all__ = ["VirtualChannel", "routes"]


def routes(channel: VirtualChannel, exchange: str, routing_key: str, default_type: str) -> bool:
    """Return whether a virtual exchange, which drops what it cannot route, has a queue for the key."""
    kind = channel.state.exchanges.get(exchange, {}).get("type", default_type)
    queues: Any = channel._lookup(exchange, routing_key)
    return kind == "fanout" or bool(queues)
