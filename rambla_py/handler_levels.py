"""The level of the handler contract that a class implements."""

from __future__ import annotations

import inspect
from typing import Literal

from rambla_py.handler import Handler

__all__ = ["Level", "level_of", "takes_runs"]

Level = Literal["publish", "batch", "deliveries"]


def level_of(handler: type[Handler]) -> Level | None:
    """Return the deepest level of the contract that a class implements, or None when it implements none."""
    if handler.handle_deliveries is not Handler.handle_deliveries:
        return "deliveries"
    if handler.handle_batch is not Handler.handle_batch:
        return "batch"
    if handler.handle_publish is not Handler.handle_publish:
        return "publish"
    return None


def takes_runs(handler: type[Handler]) -> bool:
    """Return whether batches for a class may have several messages of a key: see ``Handler.ordered``."""
    if not handler.ordered or level_of(handler) != "batch":
        return False
    return not inspect.iscoroutinefunction(handler.handle_batch)
