"""Chain of sinks for deliveries that end with a status other than ``ok``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from rambla_py.telemetry.records import target_extra

if TYPE_CHECKING:
    from rambla_py.delivery import LiveDelivery

__all__ = ["EndSink", "EndSinks"]

log = logging.getLogger("rambla_py.delivery")

EndSink = Callable[["LiveDelivery", Callable[[], None]], None]
"""``sink(delivery, proceed)``: calls ``proceed`` once, immediately or later, from any thread."""


class EndSinks:
    """The sinks of one target, in order.

    The delivery already has its status and error, is counted and logged, and holds no lane. Its receipt is
    settled after the last sink has called ``proceed``; a sink that raises is skipped.
    """

    def __init__(self) -> None:
        self._sinks: tuple[EndSink, ...] = ()

    def add(self, sink: EndSink) -> None:
        """Append a sink to the chain."""
        self._sinks = (*self._sinks, sink)

    def take(self, delivery: LiveDelivery, end: Callable[[], None]) -> None:
        """Pass a delivery through the chain; ``end`` is called after the last sink."""
        if self._sinks:
            _Traversal(self._sinks, delivery, end).proceed()
        else:
            end()


class _Traversal:
    """One delivery in the chain, with the sinks that follow."""

    __slots__ = ("_delivery", "_end", "_left")

    def __init__(self, sinks: tuple[EndSink, ...], delivery: LiveDelivery, end: Callable[[], None]) -> None:
        self._left, self._delivery, self._end = list(reversed(sinks)), delivery, end

    def proceed(self) -> None:
        if not self._left:
            self._end()
            return
        sink, step = self._left.pop(), _Once(self.proceed)
        try:
            sink(self._delivery, step)
        except Exception:
            delivery, extra = self._delivery, target_extra(self._delivery.target)
            log.exception("%s: a sink raised at the end of %s", _name(delivery), delivery.id, extra=extra)
            step()


class _Once:
    """A function that runs only the first time it is called."""

    __slots__ = ("_calls",)

    def __init__(self, call: Callable[[], None]) -> None:
        self._calls = [call]

    def __call__(self) -> None:
        try:
            call = self._calls.pop()
        except IndexError:
            return
        call()


def _name(delivery: LiveDelivery) -> str:
    return f"{delivery.target.service}.{delivery.target.channel}"
