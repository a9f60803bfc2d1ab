"""The running parts of one app in one process: its targets and their supervision tree."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Container, Sequence

import msgspec

from rambla_py._internal.durations import seconds_left
from rambla_py._internal.waiting import Signal, wait
from rambla_py.config.schema import ChannelConfig, Config
from rambla_py.receipt import Home
from rambla_py.runtime.chains import chain_of, closing_order
from rambla_py.runtime.delivery.orphaned import NoWorkers, finish_callbacks
from rambla_py.runtime.fallback import ContinuingSink, FallbackSink
from rambla_py.runtime.flushing import Flush
from rambla_py.runtime.resting import Resting
from rambla_py.runtime.stopping import Shutdown
from rambla_py.runtime.supervision.plan import Plan
from rambla_py.runtime.target.collaborators import Collaborators
from rambla_py.runtime.target.drafts import payload_needs
from rambla_py.runtime.target.shutdown import close
from rambla_py.runtime.target.snapshot import obstacle
from rambla_py.runtime.target.target import Target
from rambla_py.runtime.target.wakeup import WakeLimiter
from rambla_py.runtime.targets import Routes, Targets
from rambla_py.runtime.timer import Job, TimerQueue, tick
from rambla_py.runtime.tree import Tree
from rambla_py.telemetry.error_text import ErrorText
from rambla_py.telemetry.observers import Observers

__all__ = ["System"]

_CLOSE_S = 2.0
"""Longest time for connections to close within the time-out of a stop."""
_WORKERS_GRACE_S, _CALLBACKS_GRACE_S = 0.25, 0.15
"""Time beyond the time-out of a stop for connections to close and callbacks to run."""
_POLL_S = 0.005


class System:
    """The targets of an app in this process, by channel, and their supervision tree."""

    def __init__(
        self,
        config: Config,
        plan: Plan,
        observers: Observers,
        error_text: ErrorText,
        *,
        with_servers: bool = True,
    ) -> None:
        self.home = Home(config.rambla.result_timeout_s, self._obstacles)
        self._watch = TimerQueue()
        self._ticks: dict[Target, Job] = {}
        self._collaborators = Collaborators(
            home=self.home,
            observers=observers,
            error_text=error_text,
            wake_limiter=WakeLimiter(),
            start=self._ensure,
            schedule=lambda target, at: self._watch.add(self._tick_of(target), at),
            no_workers=NoWorkers,
            debug=config.rambla.debug,
            histograms=config.rambla.telemetry.metrics,
        )
        configs = [_enabled(channel, config.rambla.enabled) for channel in config.every_channel()]
        self.targets = Targets(configs, lambda one: Target(one, self._collaborators), close)
        self.routes = Routes(configs, self.targets)
        self._tree = Tree(plan, self.targets, self._watch, with_servers=with_servers)
        self._resting = Resting(configs, self._fallbacks)
        self._chain(configs)

    def start(self) -> None:
        """Start the tree."""
        self._tree.start()

    @property
    def supervised(self) -> bool:
        """Whether the timer's thread runs."""
        return self._tree.supervised

    def flush(self, channels: Container[str] | None = None) -> Flush:
        """Return a wait for the end of everything accepted so far, on these channels or on all.

        What others have stored in the outbox so far counts as accepted.
        """
        targets = self.targets.made()
        return Flush(
            [target for target in targets if channels is None or target.channel in channels], stored=True
        )

    def _obstacles(self) -> list[str]:
        return [why for target in self.targets.made() if (why := obstacle(target)) is not None]

    def schedule(self, job: Job, at: float) -> None:
        """Run a job on the timer's thread at that time, on the monotonic clock, or sooner."""
        self._watch.add(job, at)

    def wait_for_connects(self, timeout_s: float) -> None:
        """Wait until the workers of all targets where messages wait have tried to connect.

        Called when the main thread ends: from Python 3.12 on, no thread can be started after that.
        """
        deadline, pause = time.monotonic() + timeout_s, threading.Event()
        while time.monotonic() < deadline and any(_unsettled(target) for target in self.targets.made()):
            pause.wait(_POLL_S)

    def work_here(self, done: Signal) -> None:
        """Run workers that could not start a thread on the calling thread, until ``done``.

        Python 3.12.0 and 3.12.1 start no thread once the main thread has ended, later versions none in exit
        hooks. If a channel is first published to that late, the exit hook itself delivers its messages.
        """
        while not done and (pools := self._tree.threadless()):
            for pool in pools:
                pool.work_here(self._watch.add)
            wait(done, _POLL_S)

    def shutdown(self, ended: Callable[[], None]) -> Shutdown:
        """Return the shutdown of this app, not requested yet; it calls ``ended`` at its end."""

        def finish(deadline: float) -> None:
            try:
                self._close(deadline)
            finally:
                ended()

        return Shutdown(closing_order(self.targets.seal(), self._fallbacks), self._watch, finish)

    def join(self, timeout_s: float) -> None:
        """Wait until the timer, the last thread, has ended after a stop."""
        self._tree.stop_timer(timeout_s)

    def _close(self, deadline: float) -> None:
        """End remaining deliveries, stop the workers, run the last callbacks; on the timer's thread."""
        targets = [
            target for stage in closing_order(self.targets.made(), self._fallbacks) for target in stage
        ]
        for target in targets:
            close(target)
        self._tree.stop(min(seconds_left(deadline), _CLOSE_S) + _WORKERS_GRACE_S)
        finish_callbacks(targets, min(seconds_left(deadline), _CLOSE_S) + _CALLBACKS_GRACE_S)
        self._tree.stop_timer(0.0)

    def forked(self) -> None:
        """In a forked child, mark this system as the parent's."""
        self.home.forked = True
        for target in self.targets.made():
            # A handler may have forked: in the child, its answers must be ignored.
            for session in target.wakeup.workers.sessions():
                session.clear()

    def _tick_of(self, target: Target) -> Job:
        tick_of = self._ticks.get(target)
        return self._ticks.setdefault(target, functools.partial(tick, target)) if tick_of is None else tick_of

    def _chain(self, configs: Sequence[ChannelConfig]) -> None:
        """Make all targets of fallback chains at once: their sinks refer to them."""
        for config in configs:
            if config.fallbacks:
                self._add_sinks(self.targets.get(config.name))
        heads = [target for target in self.targets.made() if target.config.fallbacks]
        for target in heads:
            chain = chain_of(target, self._fallbacks)[1:]
            target.release_too(chain)
            target.admission.capture_for([payload_needs(one.config) for one in chain])
        self._resting.chain(target for target in heads if target.config.enabled)

    def _add_sinks(self, target: Target) -> None:
        """Let a target hand over to its fallbacks, and let those continue its list by themselves."""
        on, name = target.config.fallback_on, target.config.name
        channels = [self.routes[fallback] for fallback in target.config.fallbacks]
        target.completion.end_sinks.add(FallbackSink(target, channels, on, self.home, list_of=name))
        for at, (first, *others) in enumerate(channels[:-1], 1):
            if not others:
                rest = FallbackSink(first, channels[at:], on, self.home, list_of=name)
                first.completion.end_sinks.add(ContinuingSink(name, rest))

    def _ensure(self, target: Target) -> None:
        """Start a target and its fallbacks now: when they are needed, no thread might start any more."""
        for one in chain_of(target, self._fallbacks):
            pool = self._tree.ensure(one)
            if pool is not None:
                self._resting.add(one, pool)
        self._watch.add(self._resting.check, time.monotonic() + self._resting.interval_s)

    def _fallbacks(self, target: Target) -> tuple[Target, ...]:
        return tuple(one for name in target.config.fallbacks for one in self.routes[name])


def _enabled(channel: ChannelConfig, enabled: bool) -> ChannelConfig:
    return channel if enabled else msgspec.structs.replace(channel, enabled=False)


def _unsettled(target: Target) -> bool:
    return len(target.mailbox) > 0 and target.state.name in ("idle", "connecting")
