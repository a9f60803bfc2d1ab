"""Collaborators that all targets of one app share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from rambla_py.receipt import Home
    from rambla_py.runtime.target.wakeup import WakeLimiter, WorkerGroup
    from rambla_py.telemetry.observers import Observers

__all__ = ["Collaborators"]

TargetT = TypeVar("TargetT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Collaborators(Generic[TargetT]):
    """What a target calls outside of itself; one object for all targets of an app.

    ``start`` starts a target's workers; ``schedule`` schedules its periodic work, on the monotonic clock;
    ``no_workers`` makes the worker group for a target without a pool; ``error_text`` returns the redacted
    text of an error. ``debug`` keeps the tracebacks of failed attempts; without ``histograms`` no times are
    counted.
    """

    home: Home
    observers: Observers
    error_text: Callable[[BaseException | None], str]
    wake_limiter: WakeLimiter
    start: Callable[[TargetT], None]
    schedule: Callable[[TargetT, float], None]
    no_workers: Callable[[TargetT], WorkerGroup]
    debug: bool = False
    histograms: bool = True
