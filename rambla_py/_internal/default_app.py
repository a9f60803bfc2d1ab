"""The way from inner modules to the default app, which is further out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["find_default_app", "provide_default_app"]

_find: Callable[[], Any] | None = None


def provide_default_app(find: Callable[[], Any]) -> None:
    """Set the function that returns the default app; None while there is none."""
    global _find
    _find = find


def find_default_app() -> Any:
    """Return the default app; None while there is none."""
    return None if _find is None else _find()
