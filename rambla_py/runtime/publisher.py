"""Publishing on the targets of a running app."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from typing import Any

from rambla_py.errors import NotRunningError
from rambla_py.receipt import Receipt
from rambla_py.runtime.calls import Call, accept, accept_async, plan
from rambla_py.runtime.lifecycle import Lifecycle
from rambla_py.runtime.routing import find_targets
from rambla_py.runtime.traced_path import FastPath

__all__ = ["Publisher"]


class Publisher:
    """Publishes to the channels of one app; shared by ``Rambla`` and ``Channel``.

    ``fast_paths`` has, by name, the channels that accept ordinary messages in one step; it is empty while
    all messages must take the slow path.
    """

    __slots__ = ("_lifecycle", "fast_paths")

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle, self.fast_paths = lifecycle, lifecycle.fast_paths

    def publish(
        self,
        channels: str | Iterable[str],
        message: Any,
        options: Mapping[str, Any],
        *,
        may_wait: bool = True,
    ) -> Receipt:
        """Accept one message."""
        path = self._fast_path(channels)
        receipt = None if path is None else path.accept_with(message, options)
        if receipt is None:
            receipt = self.publish_slowly(channels, message, options, may_wait=may_wait)
        return receipt

    def publish_slowly(
        self,
        channels: str | Iterable[str],
        message: Any,
        options: Mapping[str, Any],
        *,
        may_wait: bool = True,
    ) -> Receipt:
        """Accept one message that its fast path has not accepted."""
        return accept(self._plan(channels, (message,), options), may_wait=may_wait)

    def publish_many(
        self, channels: str | Iterable[str], messages: Iterable[Any], options: Mapping[str, Any]
    ) -> Receipt:
        """Accept many messages, with one receipt for all."""
        messages = tuple(messages)
        path = self._fast_path(channels)
        receipt = None if path is None else path.accept_many(messages, options)
        return accept(self._plan(channels, messages, options, many=True)) if receipt is None else receipt

    def publish_async(
        self, channels: str | Iterable[str], message: Any, options: Mapping[str, Any]
    ) -> Coroutine[Any, Any, Receipt]:
        """Check and capture one message now; it is accepted in the coroutine returned."""
        return self._accepted(self._plan(channels, (message,), options))

    def publish_many_async(
        self, channels: str | Iterable[str], messages: Iterable[Any], options: Mapping[str, Any]
    ) -> Coroutine[Any, Any, Receipt]:
        """Check and capture many messages now; they are accepted in the coroutine returned."""
        return self._accepted(self._plan(channels, tuple(messages), options, many=True))

    def _fast_path(self, channels: str | Iterable[str]) -> FastPath | None:
        if type(channels) is not str:
            return None
        found = self.fast_paths.get(channels)
        return self._lifecycle.fast_path(channels) if found is None else found

    def _plan(
        self,
        channels: str | Iterable[str],
        messages: tuple[Any, ...],
        options: Mapping[str, Any],
        *,
        many: bool = False,
    ) -> Call:
        system = self._lifecycle.running()
        targets, tracing = find_targets(system.routes, channels), self._lifecycle.tracing
        trace = None if tracing is None else tracing.begin()
        return plan(system.home, targets, messages, options, many=many, trace=trace)

    async def _accepted(self, call: Call) -> Receipt:
        def check_running() -> None:
            if self._lifecycle.running().home is not call.home:
                raise NotRunningError("running again, but this call was made before the restart")

        return await accept_async(call, check_running)
