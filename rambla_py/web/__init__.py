"""ASGI applications of an app, to mount in a server of your own.

``ops_app`` needs the extra ``web``; it is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rambla_py.web.health import health_app

if TYPE_CHECKING:
    from rambla_py.web.ops import ops_app

__all__ = ["health_app", "ops_app"]

if not TYPE_CHECKING:  # a type checker that saw this function would accept any misspelt name

    def __getattr__(name: str) -> Any:
        if name != "ops_app":
            raise AttributeError(f"module 'rambla_py.web' has no attribute {name!r}")
        return importlib.import_module("rambla_py.web.ops").ops_app


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
