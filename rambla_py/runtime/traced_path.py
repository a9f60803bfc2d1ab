"""Fast path of one channel while an app is traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.message import Message
from rambla_py.receipt import Receipt

if TYPE_CHECKING:
    from rambla_py.runtime.target.target import Target
    from rambla_py.telemetry.tracing import Tracing

__all__ = ["FastPath", "TracedPath"]


class FastPath(Protocol):
    """Accepts ordinary messages of one channel in one step; returns None for others, with nothing done."""

    @property
    def accept(self) -> Callable[..., Receipt | None]:
        """Accept one message without options."""

    def accept_with(self, message: Any, options: Mapping[str, Any]) -> Receipt | None:
        """Accept one message with options."""

    def accept_many(self, payloads: Sequence[Any], options: Mapping[str, Any]) -> Receipt | None:
        """Accept payloads with common options."""

    def bound(self, options: Mapping[str, Any]) -> Callable[[Any], Receipt | None]:
        """Return ``accept`` with options bound to it."""


class TracedPath:
    """Adds the headers of the caller's trace, where all messages of the call have the same.

    What has headers of its own, or gets a span for each delivery, takes the slow path.
    """

    def __init__(self, path: FastPath, targets: Sequence[Target], tracing: Tracing) -> None:
        self._path, self._headers = path, tracing.headers
        self._has_headers = any(target.config.headers for target in targets)
        self.accept = self._with_headers(path.accept, {})

    def accept_with(self, message: Any, options: Mapping[str, Any]) -> Receipt | None:
        """Accept one message with options; raises ``OptionError`` and ``SerializationError``."""
        added = self._headers()
        if added is None:
            return None
        if not added:
            return self._path.accept_with(message, options)
        if type(message) is Message or not self._may_add(options):
            return None
        return self._path.accept_with(message, {**options, "headers": added})

    def accept_many(self, payloads: Sequence[Any], options: Mapping[str, Any]) -> Receipt | None:
        """Accept payloads with common options; raises ``OptionError`` and ``SerializationError``."""
        added = self._headers()
        if added is None:
            return None
        if not added:
            return self._path.accept_many(payloads, options)
        return (
            self._path.accept_many(payloads, {**options, "headers": added})
            if self._may_add(options)
            else None
        )

    def bound(self, options: Mapping[str, Any]) -> Callable[[Any], Receipt | None]:
        """Return ``accept`` with options bound to it; raises ``OptionError``."""
        return self._with_headers(self._path.bound(options), options)

    def _may_add(self, options: Mapping[str, Any]) -> bool:
        return not self._has_headers and "headers" not in options

    def _with_headers(
        self, accept: Callable[..., Receipt | None], options: Mapping[str, Any]
    ) -> Callable[[Any], Receipt | None]:
        headers, path, may_add = self._headers, self._path, self._may_add(options)
        # One tuple, which threads replace as a whole: the headers of the latest call, and once they have
        # come twice, the function with these headers bound. To bind them costs as much as three messages.
        latest: tuple[Mapping[str, str] | None, Callable[[Any], Receipt | None] | None] = None, None

        def accept_traced(message: Any) -> Receipt | None:
            nonlocal latest
            added = headers()
            if added is None:
                return None
            if not added:
                return accept(message)
            if not may_add or type(message) is Message:
                return None
            known, bound = latest
            if known is not added:
                latest = added, None
                return path.accept_with(message, {**options, "headers": added})
            if bound is None:
                bound = path.bound({**options, "headers": added})
                latest = added, bound
            return bound(message)

        return accept_traced
