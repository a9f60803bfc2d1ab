"""What the attempts of a delivery have shown, and what the outbox keeps of it."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["History", "Stored"]


class History(msgspec.Struct, gc=False, eq=False):
    """What the attempts of one delivery have shown; kept only once one of them did not succeed.

    ``maybe_sent``: an attempt may have reached the backend. ``group``: how many deliveries were in flight
    together at its last attempt as a suspect. ``probing``: the scope for which it is the probe. ``refusals``
    counts the attempts that the backend was unavailable for, ``delivered_before`` is what its target had
    delivered at the last of them; ``alone_since`` is the first one that met an available target. ``origin``
    is the ``LiveDelivery`` whose fallback it is, first of a chain. ``apart`` counts how often it was set
    apart: after shared requests without an answer, and once if it was refused while others were delivered.
    """

    maybe_sent: bool = False
    group: int = 0
    probing: str | None = None
    refusals: int = 0
    delivered_before: int = 0
    alone_since: float | None = None
    origin: Any = None
    apart: int = 0

    def set_apart(self) -> None:
        """Let it share no request from now on."""
        self.apart += 1

    def probe(self, scope: str) -> None:
        """Make it the probe of a scope."""
        self.probing = scope

    def end_probe(self) -> str | None:
        """Return the scope that it was the probe of, once."""
        scope, self.probing = self.probing, None
        return scope

    def refused(self, delivered: int) -> bool:
        """Count an attempt that the backend was unavailable for.

        Returns whether it was refused before, and its target has delivered others since.
        """
        again = self.refusals > 0 and delivered > self.delivered_before
        self.refusals += 1
        self.delivered_before = delivered
        return again

    def alone_for(self, now: float) -> float:
        """Return for how many seconds it was refused while others were delivered."""
        if self.alone_since is None:
            self.alone_since = now
        return now - self.alone_since

    def in_group(self, size: int) -> None:
        """Record how many suspects are attempted together with it, itself included."""
        self.group = size


class Stored(msgspec.Struct, gc=False, eq=False):
    """What the outbox knows of a durable delivery: its row, and how often its process died with it.

    ``adoption``: under which number its target adopted it, if the row was stored before this process
    delivered its share of the outbox, or by another one; else 0.
    ``fallback_of``: the target whose list of fallbacks continues after this one, if it has ended.
    ``readable``: the delivery has the payload of the row, and not None in its place.
    """

    row: Any
    adoption: int = 0
    crashes: int = 0
    readable: bool = True
    fallback_of: str | None = None
