"""The live supervision tree that a plan describes."""

from __future__ import annotations

import logging
import time

from rambla_py.errors import describe
from rambla_py.runtime.channel_tree import ChannelTree
from rambla_py.runtime.delivery.pool import Pool
from rambla_py.runtime.supervision.plan import Plan
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.targets import Targets
from rambla_py.runtime.timer import Timer, TimerQueue

__all__ = ["Tree"]

log = logging.getLogger("rambla_py.supervisor")


class Tree:
    """The channels of an app and its timer, one for one: a failure in one channel affects no other.

    Threads beside those of the workers: one for the timer, and one for each channel with external servers.
    ``with_servers`` is False in a forked child: the servers run in its parent.
    """

    def __init__(self, plan: Plan, targets: Targets, watch: TimerQueue, *, with_servers: bool = True) -> None:
        self._targets, self._watch, self._with_servers = targets, watch, with_servers
        self._stopping = False
        self._timer: Timer | None = None
        self._plans = {plan.config.name: plan for service in plan.services for plan in service.channels}
        self._channels: dict[str, ChannelTree] = {}

    def start(self) -> None:
        """Start the timer and the channels that are not lazy."""
        self._timer = Timer(self._watch, self._timer_died).begin()
        for name, plan in self._plans.items():
            if not plan.config.lazy:
                self.ensure(self._targets.get(name))

    def ensure(self, target: Target) -> Pool | None:
        """Start a channel unless it already runs, and return its pool; None after a stop. From any thread."""
        channel = self._channel_of(target)
        if self._stopping:  # read after the channel is known: either ``stop`` stops it, or it does not start
            return None
        channel.start()
        return channel.pool

    @property
    def supervised(self) -> bool:
        """Whether the timer, which finds stuck and missing workers, runs."""
        return self._timer is not None and self._timer.is_alive()

    def threadless(self) -> list[Pool]:
        """Return the pools that could not start a thread because the interpreter is ending."""
        return [channel.pool for channel in tuple(self._channels.values()) if channel.pool.threadless]

    def stop(self, timeout_s: float) -> bool:
        """Stop the channels, all at once; return whether they ended in time."""
        self._stopping = True
        deadline = time.monotonic() + timeout_s
        channels = tuple(self._channels.values())
        for channel in channels:
            channel.ask_to_stop(deadline)
        ended = [channel.halt(deadline) for channel in channels]
        return all(ended)

    def stop_timer(self, timeout_s: float) -> None:
        """End the timer, the last thread."""
        self._stopping = True
        if self._timer is not None:
            self._timer.halt(timeout_s)

    def _channel_of(self, target: Target) -> ChannelTree:
        name = target.config.name
        channel = self._channels.get(name)
        if channel is None:  # the same for all threads, should several be here
            made = ChannelTree(self._plans[name], target, with_servers=self._with_servers)
            channel = self._channels.setdefault(name, made)
        return channel

    def _timer_died(self, error: BaseException) -> None:
        """Replace a dead timer; called on its thread."""
        if self._stopping:
            return
        try:
            self._timer = Timer(self._watch, self._timer_died).begin()
        except RuntimeError:  # the interpreter is ending and starts no threads
            log.critical("the timer died and cannot be replaced: %s", describe(error))
