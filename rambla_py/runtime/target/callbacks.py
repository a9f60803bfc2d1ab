"""Callbacks of a delivery: from its options, or else the handler's methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rambla_py.handler import Handler

if TYPE_CHECKING:
    from rambla_py.policy import Policy

__all__ = ["callback_of", "has_end_callback", "overrides_end_callback"]

_AFTER = ("on_success", "on_outcome")


def callback_of(name: str, policy: Policy, handler: Handler) -> Callable[..., Any] | None:
    """Return the callback with this name, or None."""
    chosen: Callable[..., Any] | None = getattr(policy.callbacks, name)
    if chosen is None and _overrides(type(handler), name):
        chosen = getattr(handler, name)
    return chosen


def has_end_callback(policy: Policy) -> bool:
    """Return whether the options have a callback that runs after the end."""
    return any(getattr(policy.callbacks, name) is not None for name in _AFTER)


def overrides_end_callback(handler: type[Handler]) -> bool:
    """Return whether a handler has a callback that runs after the end."""
    return any(_overrides(handler, name) for name in _AFTER)


def _overrides(handler: type[Handler], name: str) -> bool:
    return getattr(handler, name) is not getattr(Handler, name)
