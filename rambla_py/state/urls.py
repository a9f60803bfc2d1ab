"""This module makes the store that a URL names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from rambla_py.handler import Secret, secret_text
from rambla_py.state.encrypted import EncryptedStore, parse_keys
from rambla_py.state.file import FileStore
from rambla_py.state.http import HttpStore
from rambla_py.state.memory import MemoryStore
from rambla_py.state.redis import RedisStore
from rambla_py.state.sqlite import SqliteStore
from rambla_py.state.store import StateStore

__all__ = ["store_from_url"]

_FORMS = (
    "memory://name, file:///folder, sqlite:///file (sqlite:////from/the/root), redis://..., rediss://..., "
    "unix://..., http://... or https://..."
)


def store_from_url(
    url: str | Secret, *, encryption_key: str | Secret | None = None, **options: Any
) -> StateStore:
    """Return the store that a URL names, not yet opened; ``options`` go to its class.

    ``memory://`` is a store of its own, ``memory://name`` one that this process shares by name;
    ``file:///folder`` and ``file://./folder`` name a folder; ``sqlite:///file`` is relative and
    ``sqlite:////file`` absolute, as SQLAlchemy has it; ``redis://``, ``rediss://`` and ``unix://`` are Redis,
    ``http://`` and ``https://`` a server of ``rambla state serve``. With ``encryption_key``, as
    ``parse_keys`` reads it, the store is an ``EncryptedStore`` around it. Raises ``ValueError``, which
    quotes no secret.

    >>> store_from_url("memory://carts")
    <MemoryStore, not ready>
    """
    text = secret_text(url) or ""
    scheme, found, rest = text.partition("://")
    if not found or scheme not in _MAKERS:
        raise ValueError(f"a url that is none of {_FORMS}")
    store = _MAKERS[scheme](text, rest, options)
    key = secret_text(encryption_key)
    return EncryptedStore(store, parse_keys(key)) if key else store


def _memory(url: str, rest: str, options: Mapping[str, Any]) -> StateStore:
    return MemoryStore(rest or None, **options)


def _file(url: str, rest: str, options: Mapping[str, Any]) -> StateStore:
    if not rest.startswith(("/", "./", "../", "~")):
        raise ValueError("a file url that names no folder: write file:///folder, or file://./folder")
    return FileStore(unquote(rest), **options)


def _sqlite(url: str, rest: str, options: Mapping[str, Any]) -> StateStore:
    if not rest.startswith("/") or len(rest) == 1:
        raise ValueError("a sqlite url that names no file: write sqlite:///file, or sqlite:////from/the/root")
    return SqliteStore(rest[1:], **options)


def _redis(url: str, rest: str, options: Mapping[str, Any]) -> StateStore:
    return RedisStore(url, **options)


def _http(url: str, rest: str, options: Mapping[str, Any]) -> StateStore:
    return HttpStore(url, **options)


_MAKERS = {
    "memory": _memory,
    "file": _file,
    "sqlite": _sqlite,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "http": _http,
    "https": _http,
}
