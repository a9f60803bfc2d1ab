"""This module finds the callbacks of a delivery: the option's, or else the handler's method."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rambla_py.handler import Handler

if TYPE_CHECKING:
    from rambla_py.policy import Policy

__all__ = ["hook_of", "hooked_after", "overrides_after"]

_AFTER = ("on_success", "on_outcome")


def hook_of(name: str, policy: Policy, handler: Handler) -> Callable[..., Any] | None:
    """Return the callback of that name, or None where nobody wrote one."""
    chosen: Callable[..., Any] | None = getattr(policy.callbacks, name)
    if chosen is None and _overrides(type(handler), name):
        chosen = getattr(handler, name)
    return chosen


def hooked_after(policy: Policy) -> bool:
    """Say whether the options name a callback that comes after the end."""
    return any(getattr(policy.callbacks, name) is not None for name in _AFTER)


def overrides_after(handler: type[Handler]) -> bool:
    """Say whether a handler has a callback that comes after the end."""
    return any(_overrides(handler, name) for name in _AFTER)


def _overrides(handler: type[Handler], name: str) -> bool:
    return getattr(handler, name) is not getattr(Handler, name)
