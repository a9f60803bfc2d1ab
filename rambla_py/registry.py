"""Handler classes by name."""

from __future__ import annotations

import inspect
from typing import Any

from rambla_py._internal.entry_points import entry_points
from rambla_py._internal.import_paths import import_object
from rambla_py.errors import HandlerError, nearest
from rambla_py.handler import Handler
from rambla_py.handler_levels import level_of

__all__ = ["find_handler", "handler_names", "register_handler"]

GROUP = "rambla.handlers"

_ALIASES = {"httpc": "http", "s3": "objects"}
_EXTRAS = {
    "http": "http",
    "clickhouse": "http",
    "jitsu": "http",
    "objects": "objects",
    "sql": "sql",
    "state": "crypto",
    "kafka": "kafka",
    "nats": "nats",
    "mqtt": "mqtt",
}

_SYNONYMS = {
    **dict.fromkeys(("rabbit", "rabbitmq"), "amqp"),
    **dict.fromkeys(("database", "mariadb", "mysql", "postgres", "postgresql", "sqlite"), "sql"),
    **dict.fromkeys(("https", "rest", "webhook", "webhooks"), "http"),
    **dict.fromkeys(("email", "mail"), "smtp"),
    **dict.fromkeys(("azure", "gcs", "minio"), "objects"),
    **dict.fromkeys(("mosquitto",), "mqtt"),
    **dict.fromkeys(("jetstream",), "nats"),
    **dict.fromkeys(("confluent", "redpanda"), "kafka"),
    **dict.fromkeys(("valkey",), "redis"),
    **dict.fromkeys(("stdout", "print"), "console"),
}
"""Other words for the handlers of this package."""

_registered: dict[str, type[Handler]] = {}


def register_handler(name: str, handler: type[Handler]) -> type[Handler]:
    """Make a handler class known by name, for this process; the latest of a name wins.

    Raises ``HandlerError`` when the class breaks the contract. Returns the class.

    >>> class Nowhere(Handler):
    ...     def handle_publish(self, message, options, state): ...
    >>> register_handler("nowhere", Nowhere) is find_handler("nowhere")
    True
    """
    _registered[name] = _checked(name, handler)
    return handler


def find_handler(name: str) -> type[Handler]:
    """Return the handler class of a name: registered, announced by a package, an alias, or ``module:Class``.

    Raises ``HandlerError``, with the nearest name, or with the extra to install.
    """
    if name in _registered:
        return _registered[name]
    if ":" in name:
        return _checked(name, import_object(name))
    entry = entry_points(GROUP).get(_ALIASES.get(name, name))
    if entry is None:
        close = _SYNONYMS.get(name.lower()) or nearest(name, handler_names())
        raise HandlerError(name, "unknown" + (f"; did you mean {close!r}?" if close else ""))
    try:
        loaded = entry.load()
    except ImportError as error:
        raise HandlerError(name, _missing(entry.name, error)) from error
    return _checked(name, loaded)


def handler_names() -> list[str]:
    """Return every name that ``find_handler`` knows without an import path, sorted."""
    known = set(_registered) | set(entry_points(GROUP))
    return sorted(known | {alias for alias, name in _ALIASES.items() if name in known})


def _missing(name: str, error: ImportError) -> str:
    extra = _EXTRAS.get(name)
    if extra is None:
        return f"cannot be imported: {error}"
    return f"needs the extra {extra!r} ({error}); install it with: pip install 'rambla-py[{extra}]'"


def _checked(name: str, handler: Any) -> type[Handler]:
    if not (inspect.isclass(handler) and issubclass(handler, Handler)):
        raise HandlerError(name, f"expected a subclass of rambla_py.Handler, got {handler!r}")
    if level_of(handler) is None:
        raise HandlerError(name, "implements none of handle_publish, handle_batch, handle_deliveries")
    return handler
