"""Imports of what the commands about analytics need of the extra ``analytics``."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rambla_py.errors import HandlerError

__all__ = ["analytics_module", "needs_extra"]


def analytics_module(name: str) -> Any:
    """Import a module of ``rambla_py.analytics``; raises ``HandlerError`` if the extra is missing."""
    with needs_extra():
        return importlib.import_module(f"rambla_py.analytics.{name}")


@contextmanager
def needs_extra() -> Iterator[None]:
    """Raise ``HandlerError``, which names the extra, for an ``ImportError`` of the block."""
    try:
        yield
    except ImportError as error:
        hint = "needs the extra 'analytics'; install it with: pip install 'rambla-py[analytics]'"
        raise HandlerError("analytics", f"{hint} ({error})") from error
