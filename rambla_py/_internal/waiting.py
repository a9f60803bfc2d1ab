"""Waiting for something that other threads report, in a thread or on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Hashable
from typing import Protocol

from rambla_py._internal.durations import DEFAULT, LONGEST_S, Default, seconds_left

__all__ = [
    "Pauses",
    "Signal",
    "Source",
    "in_event_loop",
    "pauses",
    "wait",
    "wait_async",
    "wait_for",
    "wait_until_over",
    "wait_until_over_async",
    "warn_in_event_loop",
]

_CHECKS = 20
"""How often progress is looked at within a time without any: a wait ends at most a twentieth too late."""

Wake = Callable[[], None]


class Source(Protocol):
    """Something that can be waited for.

    ``when_set(wake)`` calls ``wake`` once it has happened, at once when it has; ``forget(wake)`` cancels
    that. ``wake`` is quick and cannot raise.
    """

    @property
    def when_set(self) -> Callable[[Wake], None]: ...

    @property
    def forget(self) -> Callable[[Wake], None]: ...


class Signal:
    """Something that happens once. Every method may be called from any thread, and from a signal handler."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._happened = False
        self._waiters: list[Wake] = []

    def __bool__(self) -> bool:
        return self._happened

    def set(self) -> None:
        """Let it happen, and notify those who wait."""
        with self._lock:
            self._happened = True
            waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()

    def when_set(self, wake: Wake) -> None:
        with self._lock:
            if not self._happened:
                self._waiters.append(wake)
                return
        wake()

    def forget(self, wake: Wake) -> None:
        with self._lock:
            self._waiters = [other for other in self._waiters if other is not wake]


def wait(source: Source, timeout_s: float) -> bool:
    """Block until it has happened; return whether it did within ``timeout_s``."""
    return wait_for(source.when_set, source.forget, timeout_s)


def wait_for(when_set: Callable[[Wake], None], forget: Callable[[Wake], None], timeout_s: float) -> bool:
    """Wait as ``wait`` does, for something with the two functions of a ``Source``."""
    gate = threading.Lock()
    gate.acquire()
    wake = gate.release
    when_set(wake)
    try:
        # A lock and no Event: an Event has a lock of its own, which a signal handler may find taken.
        if gate.acquire(timeout=timeout_s if timeout_s < LONGEST_S else LONGEST_S):
            return True
    except BaseException:
        forget(wake)
        raise
    forget(wake)
    return gate.acquire(blocking=False)


async def wait_async(source: Source, timeout_s: float) -> bool:
    """Wait on the running loop until it has happened; return whether it did within ``timeout_s``."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        # The loop may have ended while its task waited.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish)

    source.when_set(wake)
    try:
        done, _ = await asyncio.wait([future], timeout=min(LONGEST_S, timeout_s))
    finally:
        source.forget(wake)
        future.cancel()
    return bool(done)


Pauses = Callable[[], float]
"""Returns how long to wait next, in seconds; 0 once the time is over."""


def pauses(timeout_s: float | Default, quiet_s: float, progress: Callable[[], Hashable]) -> Pauses:
    """Return the pauses of one wait, ``timeout_s`` in all.

    With ``DEFAULT`` it goes on while ``progress`` returns something new within ``quiet_s``.
    """
    if timeout_s is DEFAULT:
        return _while_progress(quiet_s, progress)
    deadline = time.monotonic() + timeout_s
    return lambda: seconds_left(deadline)


def wait_until_over(source: Source, pauses: Pauses) -> bool:
    """Block until it has happened; return whether it did before the time was over."""
    while (time_s := pauses()) > 0:
        if wait(source, time_s):
            return True
    return False


async def wait_until_over_async(source: Source, pauses: Pauses) -> bool:
    """Wait on the running loop until it has happened; return whether it did before the time was over."""
    while (time_s := pauses()) > 0:
        if await wait_async(source, time_s):
            return True
    return False


def _while_progress(quiet_s: float, progress: Callable[[], Hashable]) -> Pauses:
    seen, deadline = progress(), time.monotonic() + quiet_s

    def next_pause() -> float:
        nonlocal seen, deadline
        now = progress()
        if now != seen:
            seen, deadline = now, time.monotonic() + quiet_s
        return min(seconds_left(deadline), max(quiet_s / _CHECKS, 0.001))

    return next_pause


def in_event_loop() -> bool:
    """Return whether this thread runs an event loop, which a blocking call would stop."""
    # The public function raises where there is none, which costs more than the rest of a short wait.
    return asyncio._get_running_loop() is not None


def warn_in_event_loop(call: str, twin: str) -> None:
    """Emit a ``RuntimeWarning`` that names the async twin of a call that is about to block a loop."""
    if in_event_loop():
        warnings.warn(
            f"{call} blocks the running event loop; use 'await {twin}'", RuntimeWarning, stacklevel=3
        )
