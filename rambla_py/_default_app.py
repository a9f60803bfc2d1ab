"""The one default app, for applications that want no object of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rambla_py._internal.default_app import provide_default_app
from rambla_py.app import Rambla
from rambla_py.config import Config
from rambla_py.errors import AlreadyRunningError, NotRunningError
from rambla_py.receipt import Receipt
from rambla_py.status import Audit

__all__ = ["lent", "publish", "publish_many", "start", "stop"]

_app: Rambla | None = None
_lent = False
"""Whether ``_app`` stands in until ``start`` makes another one."""


def start(config: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None) -> Rambla:
    """Start the default app with a config, a mapping, a TOML file, or the file that is found, and return it.

    Raises ``ConfigError``, and ``AlreadyRunningError`` while a default app runs: call ``stop`` first.
    """
    global _app, _lent
    if _app is not None and not _lent and _app._lifecycle.state in ("running", "stopping"):
        raise AlreadyRunningError("a default app is running; call rambla_py.stop() before start()")
    app = Rambla(config) if isinstance(config, Config | Mapping) else Rambla.from_toml(config)
    _app, _lent = app.start(), False
    return app


@contextmanager
def lent(app: Rambla) -> Iterator[None]:
    """Make a running app the default one until ``start`` makes another; afterwards the former one is back."""
    global _app, _lent
    former = _app, _lent
    _app, _lent = app, True
    try:
        yield
    finally:
        _app, _lent = former


def stop(timeout_s: float | None = 20.0) -> dict[str, Audit]:
    """Stop the default app as ``Rambla.stop`` does; without one it returns no accounts."""
    return _app.stop(timeout_s) if _app is not None else {}


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


provide_default_app(lambda: _app)
