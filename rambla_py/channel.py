"""A channel with options bound once."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rambla_py.receipt import Receipt

if TYPE_CHECKING:
    from rambla_py.runtime.publisher import Publisher
    from rambla_py.runtime.traced_path import FastPath

__all__ = ["Channel"]


class _Bound(NamedTuple):
    """Fast path to the only target of a channel, with options bound to it."""

    admission: FastPath | None
    accept: Callable[[Any], Receipt | None]


def _nothing(message: Any) -> Receipt | None:
    return None


class Channel:
    """One channel of an app, its options bound and checked once; ``app.channel(name, ...)`` makes it.

    It may be made before the app starts, kept for as long as the app, and used from any thread. Options of a
    single call win over those bound; headers merge.

    >>> import rambla_py as rambla
    >>> table = {"null": {"channels": {"demo": {}}}}
    >>> with rambla.Rambla(table) as app:
    ...     orders = app.channel("demo", retries=2)
    ...     orders.publish({"id": 42}).outcomes(timeout_s=5)[0].status
    'ok'
    """

    __slots__ = ("_bound", "_fast_paths", "_options", "_publisher", "name")

    def __init__(self, publisher: Publisher, name: str, options: dict[str, Any]) -> None:
        self.name = name
        self._publisher, self._options, self._fast_paths = publisher, options, publisher.fast_paths
        self._bound = _Bound(None, _nothing)

    def __repr__(self) -> str:
        return f"<Channel {self.name}, options={sorted(self._options)}>"

    def publish(self, message: Any, /, **options: Any) -> Receipt:
        """Accept one message, as ``Rambla.publish`` does; raises the same."""
        if not options:
            # The app's own table: it is empty once the app takes no more, and new in a forked child.
            try:
                admission = self._fast_paths[self.name]
            except KeyError:
                pass
            else:
                bound = self._bound
                receipt = (bound.accept if bound.admission is admission else self._bind(admission))(message)
                if receipt is not None:
                    return receipt
        return self._publisher.publish(self.name, message, self._with(options))

    def _publish_now(self, message: Any, /, **options: Any) -> Receipt:
        """Accept one message as ``publish`` does, without ever waiting for room."""
        admission = None if options else self._fast_paths.get(self.name)
        if admission is not None:
            bound = self._bound
            receipt = (bound.accept if bound.admission is admission else self._bind(admission))(message)
            if receipt is not None:
                return receipt
        return self._publisher.publish(self.name, message, self._with(options), may_wait=False)

    def publish_many(self, messages: Iterable[Any], /, **options: Any) -> Receipt:
        """Accept many messages, as ``Rambla.publish_many`` does; raises the same."""
        return self._publisher.publish_many(self.name, messages, self._with(options))

    def publish_async(self, message: Any, /, **options: Any) -> Coroutine[Any, Any, Receipt]:
        """Accept one message from an event loop, as ``Rambla.publish_async`` does; raises the same."""
        return self._publisher.publish_async(self.name, message, self._with(options))

    def publish_many_async(self, messages: Iterable[Any], /, **options: Any) -> Coroutine[Any, Any, Receipt]:
        """Accept many messages from an event loop, as ``Rambla.publish_many_async`` does; raises the same."""
        return self._publisher.publish_many_async(self.name, messages, self._with(options))

    def _with(self, options: dict[str, Any]) -> dict[str, Any]:
        if not options:
            return self._options
        both = {**self._options, **options}
        below, over = self._options.get("headers"), options.get("headers")
        if isinstance(below, Mapping) and isinstance(over, Mapping):
            both["headers"] = {**below, **over}
        return both

    def _bind(self, admission: FastPath) -> Callable[[Any], Receipt | None]:
        self._bound = _Bound(admission, admission.bound(self._options))
        return self._bound.accept
