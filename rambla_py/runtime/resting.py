"""Workers with nothing to do give their threads back."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rambla_py.runtime.chains import chain_of
from rambla_py.runtime.delivery.event_loop import side_threads_of

if TYPE_CHECKING:
    from rambla_py.config.schema import ChannelConfig
    from rambla_py.runtime.chains import Successors
    from rambla_py.runtime.delivery.pool import Pool
    from rambla_py.runtime.target.target import Target

__all__ = ["Resting"]

_EXITS_WITHOUT_THREADS = sys.version_info >= (3, 12)


class Resting:
    """Stops the workers of targets that have had nothing to do for ``idle_timeout_s``.

    The next message starts them again. A target that others hand over to rests when these do, because the
    thread that publishes first starts the workers of the whole chain. Only connected workers stop: a target
    whose backend is away goes on showing that. From Python 3.12 on, exit hooks cannot start threads; there,
    workers that need further threads to connect stay. Used on the timer's thread.
    """

    def __init__(self, configs: Iterable[ChannelConfig], fallbacks: Successors[Target]) -> None:
        self._fallbacks = fallbacks
        self._heads: dict[Target, list[Target]] = {}
        self._pools: dict[Target, Pool] = {}
        self._accepted: dict[Target, int] = {}
        self._quiet_since: dict[Target, float] = {}
        enabled = (config.idle_timeout_s for config in configs if config.enabled)
        self.interval_s = min(enabled, default=math.inf) / 4

    def chain(self, heads: Iterable[Target]) -> None:
        """Let the targets of each head's fallback chain rest only when the head does."""
        for head in heads:
            for target in chain_of(head, self._fallbacks)[1:]:
                self._heads.setdefault(target, []).append(head)

    def add(self, target: Target, pool: Pool) -> None:
        """Watch a target whose workers have been started."""
        self._pools[target] = pool

    def check(self, now: float) -> float | None:
        """Stop the workers of targets that have been quiet for long enough, as a job of the timer."""
        for target in tuple(self._pools):
            self._observe(target, now)
        for target, pool in tuple(self._pools.items()):
            if self._may_rest(target, now):
                del self._pools[target]
                if not pool.rest():
                    self._pools[target] = pool
        return now + self.interval_s if self._pools else None

    def _observe(self, target: Target, now: float) -> None:
        accepted = target.counters.accepted()
        if target.pending() or self._accepted.get(target) != accepted:
            self._quiet_since.pop(target, None)
        else:
            self._quiet_since.setdefault(target, now)
        self._accepted[target] = accepted

    def _may_rest(self, target: Target, now: float) -> bool:
        config = target.config
        if not config.lazy or (_EXITS_WITHOUT_THREADS and side_threads_of(config)):
            return False
        return all(self._is_quiet(head, now) for head in (target, *self._heads.get(target, ())))

    def _is_quiet(self, target: Target, now: float) -> bool:
        if target not in self._pools:  # it rests, or has not been used
            return True
        since = self._quiet_since.get(target)
        return since is not None and now - since >= target.config.idle_timeout_s
