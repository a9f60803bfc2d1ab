"""This module holds the one default app, for applications that want no object of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from rambla_py.app import Rambla
from rambla_py.config import Config
from rambla_py.errors import NotRunningError
from rambla_py.receipt import Receipt
from rambla_py.report import Audit

__all__ = ["publish", "publish_many", "start", "stop"]

_app: Rambla | None = None


def start(config: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None) -> Rambla:
    """Start the default app with a config, a mapping, a TOML file, or the file that is found, and return it.

    A default app that runs already is stopped first. Raises ``ConfigError``.
    """
    global _app
    app = Rambla(config) if isinstance(config, Config | Mapping) else Rambla.from_toml(config)
    stop()
    _app = app.start()
    return app


def stop(timeout_s: float = 30.0) -> dict[str, Audit] | None:
    """Stop the default app as ``Rambla.stop`` does; nothing happens when there is none."""
    global _app
    app, _app = _app, None
    return app.stop(timeout_s) if app is not None else None


def publish(channels: str | Iterable[str], message: Any, /, **options: Any) -> Receipt:
    """Publish through the default app as ``Rambla.publish`` does; ``start`` comes first."""
    return _running().publish(channels, message, **options)


def publish_many(channels: str | Iterable[str], messages: Iterable[Any], /, **options: Any) -> Receipt:
    """Publish many through the default app; see ``Rambla.publish_many``."""
    return _running().publish_many(channels, messages, **options)


def _running() -> Rambla:
    if _app is None:
        raise NotRunningError("not started")
    return _app
