"""Objects by the path to import them from, ``package.module:attribute``."""

from __future__ import annotations

import importlib
from typing import Any

from rambla_py.errors import HandlerError, nearest

__all__ = ["import_object"]


def import_object(path: str) -> Any:
    """Import ``package.module:attribute``; raises ``HandlerError`` that says which half is wrong."""
    module_name, _, attribute = path.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise HandlerError(path, f"cannot import {module_name!r}: {error}") from error
    for part in attribute.split("."):
        try:
            target = getattr(target, part)
        except AttributeError:
            close = nearest(part, dir(target))
            hint = f"; did you mean {close!r}?" if close else ""
            raise HandlerError(path, f"{module_name!r} has no {attribute!r}{hint}") from None
    return target
