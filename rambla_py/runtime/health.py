"""Health of an app: whether its threads run, and whether it takes messages."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, get_args

from rambla_py.errors import OptionError
from rambla_py.runtime.lifecycle import Lifecycle
from rambla_py.runtime.routing import configured
from rambla_py.runtime.target.target import Target
from rambla_py.status import Health

__all__ = ["Need", "Progress", "health_of", "stalled"]

Need = Literal["accept", "connected"]

_TURNS = 5
"""Attempts' time-outs without a turn of any worker after which the app counts as dead."""


class Progress(NamedTuple):
    """When the workers of a target last went through their loop, and since when a message waits for them.

    Points in time are on the monotonic clock; None for no worker, and for nothing that waits.
    """

    target: str
    turned_at: float | None
    waiting_since: float | None
    limit_s: float


def health_of(lifecycle: Lifecycle, channels: str | Iterable[str] | None, need: Need) -> Health:
    """Return the health of an app; raises ``UnknownChannelError`` and ``OptionError``."""
    if need not in get_args(Need):
        raise OptionError("need", f'expected "accept" or "connected", got {need!r}')
    named = _named(lifecycle, channels)
    dead = list(_not_live(lifecycle))
    unready = [] if lifecycle.state == "running" else [f"the app is {lifecycle.state}"]
    if not unready:
        for target in lifecycle.targets() if named else ():
            if target.config.name in named:
                unready += _not_ready(target, need)
    return Health(live=not dead, ready=not unready, reasons=dead + unready)


def stalled(targets: Sequence[Progress], now: float) -> list[str]:
    """Return the targets whose messages wait while no worker of any target turns.

    >>> stalled([Progress("null.demo", turned_at=10.0, waiting_since=12.0, limit_s=150.0)], now=200.0)
    ['null.demo']
    """
    late = [
        one
        for one in targets
        if one.turned_at is not None
        and one.waiting_since is not None
        and now - max(one.turned_at, one.waiting_since) > one.limit_s
    ]
    limit_s = max((one.limit_s for one in late), default=0.0)
    if any(one.turned_at is not None and now - one.turned_at <= limit_s for one in targets):
        return []
    return [one.target for one in late]


def _named(lifecycle: Lifecycle, channels: str | Iterable[str] | None) -> set[str]:
    names = () if channels is None else (channels,) if isinstance(channels, str) else channels
    config = lifecycle.config_in_use()
    return {target.name for name in names for target in configured(config, name)}


def _not_live(lifecycle: Lifecycle) -> Iterator[str]:
    system = lifecycle.system
    if lifecycle.state != "running" or system is None:  # None in a forked child, until its first message
        return
    if not system.supervised:
        yield "the supervisor's thread has ended"
    now = time.monotonic()
    used = [target for _, target in lifecycle.known_targets() if target is not None]
    for name in stalled([_progress(target, now) for target in used], now):
        yield f"{name}: messages wait, and no worker takes them"


def _progress(target: Target, now: float) -> Progress:
    config, turned_at = target.config, target.wakeup.workers.turned_at(now)
    # While a batch fills, sleeping workers are not woken.
    limit_s = _TURNS * config.attempt_timeout_s + config.batch_timeout_s
    late = turned_at is not None and now - turned_at > limit_s
    waiting_since = target.mailbox.first_accepted_at() if late else None
    return Progress(config.name, turned_at, waiting_since, limit_s)


def _not_ready(target: Target, need: Need) -> Iterator[str]:
    name, config, state = target.config.name, target.config, target.state.name
    if state == "disabled":
        yield f"{name}: disabled"
        return
    if target.mailbox.full:
        yield f"{name}: mailbox full ({config.max_pending:,})"
    if need == "connected" and state != "idle" and "up" not in target.wakeup.workers.states():
        yield f"{name}: not connected ({state})"
