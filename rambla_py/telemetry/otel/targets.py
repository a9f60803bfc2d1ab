"""What traces know of the targets of one app."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

from rambla_py.telemetry.otel.attributes import SpanTarget, TargetAttributes
from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.telemetry.observer import ObservedTarget

__all__ = ["Targets"]

log = logging.getLogger("rambla_py.telemetry")


class Targets:
    """The attributes of each target, made at its first span. Thread-safe.

    ``malformed_contexts`` counts, by ``service.channel``, messages whose ``traceparent`` could not be read.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[ObservedTarget, TargetAttributes]] = {}
        self.malformed_contexts: dict[str, int] = {}

    def of(self, target: ObservedTarget) -> TargetAttributes:
        """Return the attributes of a target."""
        known = self._known.get(id(target))
        if known is None:
            # The target is kept alive, so that its id is not used again.
            known = self._known[id(target)] = (target, TargetAttributes(cast(SpanTarget, target)))
        return known[1]

    def malformed(self, target: ObservedTarget) -> None:
        """Count a message whose trace context cannot be read, and log the first one of a target."""
        if target.name not in self.malformed_contexts:
            log.warning(
                "%s: the header traceparent of a message is malformed and was ignored; "
                "further ones are counted only",
                target.name,
                extra=target_extra(target),
            )
        self.malformed_contexts[target.name] = self.malformed_contexts.get(target.name, 0) + 1
