"""Outages of a target as a state machine: which deliveries wait, and when a probe is sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from rambla_py.policy import Backoff, backoff_delay

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery
    from rambla_py.delivery_history import History

__all__ = [
    "MAX_RETRY_AFTER_S",
    "TARGET",
    "AtFault",
    "Availability",
    "KnownScopes",
    "Outage",
    "WaitAlone",
    "WaitTogether",
]

TARGET = "target"
"""The scope of an outage of the whole target."""

MAX_RETRY_AFTER_S = 300.0
_MOST_SCOPES = 10_000
_STOPPING_PROBE_S = 1.0
_FIRST_PROBE_S = 0.1


class WaitTogether(msgspec.Struct, frozen=True):
    """The delivery waits with the others of its scope until a probe succeeds; ``began``: a new outage."""

    outage: Outage
    began: bool


class WaitAlone(msgspec.Struct, frozen=True):
    """The delivery waits by itself until ``due``; others are not held back."""

    due: float


class AtFault(msgspec.Struct, frozen=True):
    """The delivery was refused for ``max_unavailable_s`` while others succeeded: count a failed attempt."""


class Outage(msgspec.Struct, eq=False):
    """A scope that is unavailable.

    ``due`` is when the next probe may be sent, ``earliest`` when a ``Retry-After`` allows it; ``probing``
    means that a probe is in progress. Times are on the monotonic clock, in seconds.
    """

    scope: str
    state: Literal["blocked", "down"]
    since: float
    due: float = 0.0
    earliest: float = 0.0
    refusals: int = 0
    probing: bool = False
    waiting: deque[LiveDelivery] = msgspec.field(default_factory=deque)

    def send_probe(self) -> None:
        """Record that a probe is in progress."""
        self.probing = True

    def schedule(self, at: float) -> None:
        """Schedule the next probe for that time, or for when ``Retry-After`` allows it."""
        self.probing = False
        self.due = max(at, self.earliest)

    def refuse(self) -> int:
        """Count a refused probe; return the number in a row."""
        self.refusals += 1
        return self.refusals

    def not_before(self, at: float) -> None:
        """Send no probe before that time."""
        self.earliest = max(self.earliest, at)
        self.due = max(self.due, self.earliest)


class KnownScopes:
    """The scopes of options, as refusals have shown them. Not thread-safe by itself.

    >>> scopes = KnownScopes()
    >>> scopes.learn({"path": "/in"}, "http://a/in")
    >>> scopes.of({"path": "/in"}), scopes.of({"path": "/out"})
    ('http://a/in', None)
    """

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._latest: tuple[Any, str | None] = (None, None)

    def learn(self, options: Any, scope: str) -> None:
        """Record the scope that a delivery with these options was refused with."""
        if len(self._found) >= _MOST_SCOPES:
            self._found.clear()
        self._found[repr(options)] = scope
        self._latest = (options, scope)

    def of(self, options: Any) -> str | None:
        """Return the scope of options, None if it is not known."""
        # Deliveries without options of their own share the channel's object.
        if self._latest[0] is not options:
            self._latest = (options, self._found.get(repr(options)))
        return self._latest[1]


class Availability:
    """The outages of one target. Not thread-safe by itself.

    Refused deliveries of a scope wait together while one at a time is tried as the probe. A delivery that is
    refused again although the target has delivered others since waits by itself.
    """

    def __init__(self, *, max_probe_s: float, max_unavailable_s: float, uniform: Callable[[], float]) -> None:
        self.outages: dict[str, Outage] = {}
        self.stopping = False
        self._backoff = Backoff(initial_s=min(_FIRST_PROBE_S, max_probe_s), max_s=max_probe_s)
        self._max_unavailable_s, self._uniform = max_unavailable_s, uniform

    @property
    def pause(self) -> Outage | None:
        """The outage of the whole target, or None."""
        return self.outages.get(TARGET)

    def refused(
        self,
        delivery: LiveDelivery,
        scope: str,
        *,
        state: Literal["blocked", "down"],
        retry_after_s: float | None,
        delivered: int,
        now: float,
    ) -> WaitTogether | WaitAlone | AtFault:
        """Decide what follows an attempt for which ``scope`` was unavailable.

        ``delivered`` is how many messages the target has delivered so far.
        """
        history = delivery.past()
        wait_s = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
        outage = self.outages.get(scope)
        if outage is not None:
            outage.not_before(now + wait_s)
        self._after_probe(history.end_probe(), now)
        if history.refused(delivered):
            return self._alone(history, wait_s, now)
        began = outage is None
        if outage is None:
            outage = self.outages[scope] = Outage(scope, state, since=now, earliest=now + wait_s)
            self._after_probe(scope, now)
        outage.waiting.append(delivery)
        return WaitTogether(outage, began)

    def succeeded(self, delivery: LiveDelivery) -> Outage | None:
        """End and return the outage for which a successful delivery was the probe, or None."""
        scope = None if delivery.history is None else delivery.history.end_probe()
        return None if scope is None else self.outages.pop(scope, None)

    def inconclusive(self, delivery: LiveDelivery, now: float) -> None:
        """Schedule another probe after one that was lost, failed in another way, or was never sent."""
        if delivery.history is not None:
            self._after_probe(delivery.history.end_probe(), now)

    def take_due(self, now: float) -> list[Outage]:
        """Return the outages that are due for a probe, marked as probing."""
        due = [outage for outage in self.outages.values() if not outage.probing and outage.due <= now]
        for outage in due:
            outage.send_probe()
        return due

    def next_due(self) -> float | None:
        """Return when the next probe is due, or None."""
        return min((outage.due for outage in self.outages.values() if not outage.probing), default=None)

    def end(self, outage: Outage) -> None:
        """End an outage for which no delivery waits any more."""
        if self.outages.get(outage.scope) is outage:
            del self.outages[outage.scope]

    def hurry(self, now: float) -> None:
        """During a stop, probe as soon as ``Retry-After`` allows it, and then at least every second."""
        self.stopping = True
        for outage in self.outages.values():
            if not outage.probing:
                outage.schedule(now)

    def wait_s(self, refusals: int) -> float:
        """Return the seconds until the next probe after this many refusals in a row."""
        longest = backoff_delay(self._backoff, refusals, 0.5 + self._uniform() / 2)
        return min(longest, _STOPPING_PROBE_S) if self.stopping else longest

    def _after_probe(self, scope: str | None, now: float) -> None:
        outage = None if scope is None else self.outages.get(scope)
        if outage is not None:
            outage.schedule(now + self.wait_s(outage.refuse()))

    def _alone(self, history: History, retry_after_s: float, now: float) -> WaitAlone | AtFault:
        if not history.apart:
            history.set_apart()  # it may be what its whole request is refused for
        if history.alone_for(now) >= self._max_unavailable_s:
            return AtFault()
        return WaitAlone(now + max(self.wait_s(history.refusals), retry_after_s))
