"""Fast path of one channel while an app is traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rambla_py.message import Message
from rambla_py.receipt import Receipt
from rambla_py.runtime.spanned_path import SpannedPath

if TYPE_CHECKING:
    from rambla_py.runtime.target.target import Target
    from rambla_py.telemetry.tracing import Tracing

__all__ = ["FastPath", "TracedPath"]

Accept = Callable[[Any], "Receipt | None"]


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

    A message of a channel with one target may have a span of its own. What has headers of its own, or gets
    several spans, takes the slow path.
    """

    def __init__(self, path: FastPath, targets: Sequence[Target], tracing: Tracing) -> None:
        self._path, self._current, self._headers = path, tracing.current, tracing.headers
        self._has_headers = any(target.config.headers for target in targets)
        self._spanned = SpannedPath(targets[0], tracing) if len(targets) == 1 else None
        self.accept = self._with_headers(path.accept, {})

    def accept_with(self, message: Any, options: Mapping[str, Any]) -> Receipt | None:
        """Accept one message with options; raises ``OptionError`` and ``SerializationError``."""
        added = self._headers(self._current())
        if added is None:
            if self._spanned is None or not self._may_add(options):
                return None
            return self._spanned.accept(message, options)
        if not added:
            return self._path.accept_with(message, options)
        return self._accept_with(message, options, added)

    def accept_many(self, payloads: Sequence[Any], options: Mapping[str, Any]) -> Receipt | None:
        """Accept payloads with common options; raises ``OptionError`` and ``SerializationError``."""
        added = self._headers(self._current())
        if added is None:
            return None
        if not added:
            return self._path.accept_many(payloads, options)
        return (
            self._path.accept_many(payloads, {**options, "headers": added})
            if self._may_add(options)
            else None
        )

    def bound(self, options: Mapping[str, Any]) -> Accept:
        """Return ``accept`` with options bound to it; raises ``OptionError``."""
        return self._with_headers(self._path.bound(options), options)

    def _may_add(self, options: Mapping[str, Any]) -> bool:
        return not self._has_headers and "headers" not in options

    def _accept_with(
        self, message: Any, options: Mapping[str, Any], added: Mapping[str, str]
    ) -> Receipt | None:
        if type(message) is Message or not self._may_add(options):
            return None
        return self._path.accept_with(message, {**options, "headers": added})

    def _with_headers(self, accept: Accept, options: Mapping[str, Any]) -> Accept:
        current, headers, path, may_add = self._current, self._headers, self._path, self._may_add(options)
        spanned = self._spanned if may_add else None
        # One tuple, which threads replace as a whole: the context of the latest call, and what accepts the
        # messages under it. None until its headers are bound, which costs as much as three messages.
        latest: tuple[object, Accept | None] = None, None

        def accept_traced(message: Any) -> Receipt | None:
            nonlocal latest
            context = current()
            known, accept_here = latest
            if known is not context:
                added = headers(context)
                if added and may_add:
                    latest = context, None
                    return self._accept_with(message, options, added)
                if added is None:
                    accept_here = _slow_path if spanned is None else spanned.under(context, options)
                else:
                    accept_here = _slow_path if added else accept
                latest = context, accept_here
            elif accept_here is None:
                accept_here = path.bound({**options, "headers": headers(context)})
                latest = context, accept_here
            return accept_here(message)

        return accept_traced


def _slow_path(message: Any) -> Receipt | None:
    """Return None: these messages take the slow path."""
    return None
