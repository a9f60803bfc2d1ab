"""Paths of requests to a mounted application."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

__all__ = ["local_path"]


def local_path(scope: MutableMapping[str, Any]) -> str:
    """Return the path below the mount point: servers and frameworks disagree on whether ``path`` has both.

    >>> local_path({"path": "/ops/livez", "root_path": "/ops"}), local_path({"path": "/livez"})
    ('/livez', '/livez')
    """
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "").rstrip("/"))
