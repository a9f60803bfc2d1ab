"""Connection tests against the servers of targets."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from rambla_py._internal.durations import seconds_left
from rambla_py._internal.waiting import Signal, wait, wait_async
from rambla_py.config.schema import ChannelConfig
from rambla_py.errors import ConnectionLostError
from rambla_py.handler import Handler, Preflight
from rambla_py.runtime.delivery.event_loop import EventLoop
from rambla_py.runtime.supervision.plan import make_handler
from rambla_py.status import Ping
from rambla_py.telemetry.error_text import ErrorText

if TYPE_CHECKING:
    from rambla_py.runtime.target.target import Target

__all__ = ["Checked", "Pinged", "check_all", "ping_all", "ping_all_async", "pinged_of"]


class Pinged(NamedTuple):
    """A channel to ping, and what is known of it while its app runs.

    ``servers`` are the handles of its external servers; ``obstacle`` says that one of them does not run.
    """

    channel: ChannelConfig
    servers: Mapping[str, Any] = MappingProxyType({})
    obstacle: BaseException | None = None


def pinged_of(target: Target) -> Pinged:
    """Return what a ping of a target needs."""
    return Pinged(target.config, target.servers, target.state.obstacle_by("supervisor"))


class Checked(NamedTuple):
    """A ping, and what the handler's ``preflight`` reported."""

    ping: Ping
    found: Preflight


def check_all(channels: Sequence[Pinged], limit_s: float, error_text: ErrorText) -> list[Checked]:
    """Ping as ``ping_all`` does, and ask each handler why messages would fail; nothing is created."""
    deadline = time.monotonic() + limit_s
    attempts = [_Check(channel) for channel in channels]
    for attempt in attempts:
        wait(attempt.done, seconds_left(deadline))
    return [Checked(attempt.result(limit_s, error_text), attempt.found) for attempt in attempts]


def ping_all(channels: Sequence[Pinged], limit_s: float, error_text: ErrorText) -> list[Ping]:
    """Connect to each channel's server, all at once, each on its own connection; the results in order."""
    deadline = time.monotonic() + limit_s
    attempts = [_Attempt(channel) for channel in channels]
    for attempt in attempts:
        wait(attempt.done, seconds_left(deadline))
    return [attempt.result(limit_s, error_text) for attempt in attempts]


async def ping_all_async(channels: Sequence[Pinged], limit_s: float, error_text: ErrorText) -> list[Ping]:
    """Connect as ``ping_all`` does, without blocking the running loop."""
    deadline = time.monotonic() + limit_s
    attempts = [_Attempt(channel) for channel in channels]
    for attempt in attempts:
        await wait_async(attempt.done, seconds_left(deadline))
    return [attempt.result(limit_s, error_text) for attempt in attempts]


class _Attempt:
    """One connection test on a daemon thread of its own: a driver may hang longer than the caller waits."""

    def __init__(self, pinged: Pinged) -> None:
        self.done = Signal()
        self._channel, self._servers = pinged.channel, pinged.servers
        self._took_s = 0.0
        self._error = pinged.obstacle
        if self._error is not None:
            self.done.set()
            return
        threading.Thread(target=self._run, name=f"rambla ping {self._channel.name}", daemon=True).start()

    def result(self, limit_s: float, error_text: ErrorText) -> Ping:
        """Return the result; a time-out if the test has not ended."""
        took_s, error = self._took_s, self._error
        if not self.done:
            took_s, error = limit_s, ConnectionLostError(f"no answer within {limit_s:g} s")
        text = None if error is None else error_text(error)
        channel = self._channel
        return Ping(channel.service, channel.channel, error is None, took_s, text, error)

    def _run(self) -> None:
        began, loop = time.monotonic(), EventLoop(f"rambla ping {self._channel.name}")
        try:
            self._connect(loop)
        except BaseException as error:  # user code
            self._error = error
        loop.close()
        self._took_s = time.monotonic() - began
        self.done.set()

    def _connect(self, loop: EventLoop) -> None:
        handler = self._handler()
        connection = loop.resolved(handler.connect())
        try:
            loop.resolved(handler.ping(connection))
            self._after_ping(loop, handler, connection)
        finally:
            loop.resolved(handler.close(connection))

    def _handler(self) -> Handler:
        return make_handler(self._channel, self._servers)

    def _after_ping(self, loop: EventLoop, handler: Handler, connection: Any) -> None:
        """Do nothing else."""


class _Check(_Attempt):
    """An attempt that creates nothing, followed by the handler's preflight."""

    def __init__(self, pinged: Pinged) -> None:
        self.found = Preflight()
        super().__init__(pinged)

    def _handler(self) -> Handler:
        handler = super()._handler()
        handler.dry_run = True
        return handler

    def _after_ping(self, loop: EventLoop, handler: Handler, connection: Any) -> None:
        loop.resolved(handler.preflight(connection, self.found))
