"""This module asks the timer to look at one target."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig

__all__ = ["Alarm"]

_SHORTEST_S, _LONGEST_S = 0.02, 1.0
_NEVER = float("inf")


class Alarm:
    """When the timer is to look at a target; ``look_at`` makes it look, at a time or sooner.

    ``on`` says that it looks every ``interval_s``, until it finds that nothing can happen by itself.
    """

    def __init__(self, config: ChannelConfig, look_at: Callable[[float], None]) -> None:
        soonest_s = min(config.attempt_timeout_s, config.policy.expires_s or _NEVER)
        self.interval_s = max(_SHORTEST_S, min(_LONGEST_S, soonest_s / 4))
        self.on = False
        self._look_at = look_at

    def watch(self) -> None:
        """Have the timer look, again and again."""
        if not self.on:
            self.on = True
            self._look_at(time.monotonic() + self.interval_s)

    def set(self, due: float | None) -> None:
        """Have the timer look at that time, too; None is never."""
        if due is not None:
            self.watch()
            self._look_at(due)
