"""The outbox: durable messages, stored before ``publish`` returns and until their outcome.

Its functions store messages in a transaction of the application. They are imported on first use, as those of
``rambla_py``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rambla_py.outbox.transactional.publishing import (
        publish,
        publish_async,
        publish_many,
        publish_many_async,
    )
    from rambla_py.outbox.transactional.schema import ddl, tables

__all__ = ["ddl", "publish", "publish_async", "publish_many", "publish_many_async", "tables"]

_SCHEMA: Final = frozenset({"ddl", "tables"})

if not TYPE_CHECKING:  # a type checker that saw this function would accept any misspelt name

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'rambla_py.outbox' has no attribute {name!r}")
        module = "schema" if name in _SCHEMA else "publishing"
        value = getattr(importlib.import_module(f"rambla_py.outbox.transactional.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
