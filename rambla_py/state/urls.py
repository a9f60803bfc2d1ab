"""State stores by URL: which class a scheme belongs to."""

from __future__ import annotations

import inspect
from importlib import metadata
from typing import Any, Final

from rambla_py._internal.entry_points import entry_points
from rambla_py._internal.import_paths import import_object
from rambla_py._internal.urls import check_ends, lower_scheme
from rambla_py.errors import HandlerError, nearest
from rambla_py.handler import Secret, secret_text
from rambla_py.state.encrypted import EncryptedStore, parse_keys
from rambla_py.state.file import FileStore
from rambla_py.state.http import HttpStore
from rambla_py.state.memory import MemoryStore
from rambla_py.state.redis import RedisStore
from rambla_py.state.sqlite import SqliteStore
from rambla_py.state.store import StateStore

__all__ = ["find_store", "option_names", "register_store", "scheme_of", "store_from_url", "store_schemes"]

GROUP: Final = "rambla.state_stores"

_FORMS = (
    "memory://name, file:///folder, sqlite:///file (sqlite:////from/the/root), redis://..., rediss://..., "
    "unix://..., redis+cluster://..., redis+sentinel://..., http://... or https://..."
)
_registered: dict[str, type[StateStore]] = {}


def register_store(scheme: str, store: type[StateStore]) -> type[StateStore]:
    """Let URLs of a scheme name stores of a class, in this process; the latest class of a scheme is used.

    Raises ``TypeError`` unless the class is a ``StateStore`` with its own ``from_url``. Returns the class. A
    package announces its class as an entry point of the group ``rambla.state_stores`` instead.

    >>> class ShelfStore(MemoryStore):
    ...     @classmethod
    ...     def from_url(cls, url, **options):
    ...         return cls(**options)
    >>> register_store("shelf", ShelfStore) is find_store("shelf")
    True
    """
    _registered[scheme.lower()] = _checked(scheme, store)
    return store


def find_store(name: str) -> type[StateStore]:
    """Return the class of a scheme, or of ``module:Class``.

    Raises ``ValueError`` for a name that is neither, and ``TypeError`` as ``register_store`` does.
    """
    if ":" in name:
        try:
            return _checked(name, import_object(name))
        except HandlerError as error:
            raise ValueError(str(error)) from error
    scheme = name.lower()
    if scheme in _registered:
        return _registered[scheme]
    entry = _entry_points().get(scheme)
    if entry is None:
        close = nearest(scheme, store_schemes())
        raise ValueError(
            f"a url that is none of {_forms()}" + (f"; did you mean {close}://?" if close else "")
        )
    try:
        return _checked(name, entry.load())
    except ImportError as error:
        raise ValueError(f"the state store {name!r} cannot be imported: {error}") from error


def store_schemes() -> list[str]:
    """Return every scheme that ``find_store`` knows, sorted."""
    return sorted(_registered.keys() | _entry_points().keys())


def option_names(store: type[StateStore]) -> frozenset[str] | None:
    """Return the names of the options that ``from_url`` of a class takes, or None if it takes any.

    >>> "synchronous" in option_names(SqliteStore)
    True
    """
    names: set[str] = set()
    for function in (store.from_url, store.__init__):
        parameters = inspect.signature(function).parameters.values()
        names |= {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            return frozenset(names - {"clock"})
    return None


def scheme_of(url: str) -> str:
    """Return the scheme of a URL in lower case; raises ``ValueError`` if there is none."""
    check_ends(url)
    scheme, separator, _ = url.partition("://")
    if not separator or not scheme.replace("+", "").isalnum():
        raise ValueError(f"a url that is none of {_forms()}")
    return scheme.lower()


def store_from_url(
    url: str | Secret,
    *,
    store: str | type[StateStore] | None = None,
    encryption_key: str | Secret | None = None,
    **options: Any,
) -> StateStore:
    """Return the store that a URL names, not yet opened; ``options`` are keyword arguments of its class.

    ``memory://`` is a store of its own, ``memory://name`` one that this process shares by name;
    ``file:///folder`` and ``file://./folder`` name a folder; ``sqlite:///file`` is relative and
    ``sqlite:////file`` absolute, as in SQLAlchemy; ``redis://``, ``rediss://``, ``unix://``,
    ``redis+cluster://`` and ``redis+sentinel://`` are Redis, ``http://`` and ``https://`` a server of
    ``rambla state serve``. Other schemes are those of ``register_store`` and of installed packages; ``store``
    is a class, or ``module:Class``, to use instead of that of the scheme. With ``encryption_key``, as
    ``parse_keys`` reads it, the store is an ``EncryptedStore`` around it.

    Raises ``ValueError``, which quotes no secret, and ``TypeError`` for an unknown option.

    >>> store_from_url("memory://carts")
    <MemoryStore, not ready>
    """
    text = lower_scheme(secret_text(url) or "")
    check_ends(text)
    kind = store if isinstance(store, type) else find_store(store or scheme_of(text))
    known = option_names(kind)
    unknown = [] if known is None else sorted(options.keys() - known)
    if unknown:
        raise TypeError(
            f"{kind.__name__} has no option {unknown[0]!r}; it has {', '.join(sorted(known or ()))}"
        )
    found = kind.from_url(text, **options)
    key = secret_text(encryption_key)
    return EncryptedStore(found, parse_keys(key)) if key else found


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {entry.name.lower(): entry for entry in entry_points(GROUP).values()}


def _forms() -> str:
    others = ", ".join(f"{scheme}://" for scheme in store_schemes() if scheme not in _BUILT_IN)
    return f"{_FORMS}; or {others}" if others else _FORMS


def _checked(name: str, store: Any) -> type[StateStore]:
    if not (isinstance(store, type) and issubclass(store, StateStore)):
        raise TypeError(f"{name}: expected a subclass of rambla_py.state.StateStore, got {store!r}")
    if getattr(store.from_url, "__func__", None) is StateStore.from_url.__func__:  # type: ignore[attr-defined]  # a classmethod has it
        raise TypeError(f"{name}: {store.__name__} has no from_url(url, **options)")
    return store


_BUILT_IN: Final[dict[str, type[StateStore]]] = {
    "memory": MemoryStore,
    "file": FileStore,
    "sqlite": SqliteStore,
    "redis": RedisStore,
    "rediss": RedisStore,
    "unix": RedisStore,
    "redis+cluster": RedisStore,
    "rediss+cluster": RedisStore,
    "redis+sentinel": RedisStore,
    "rediss+sentinel": RedisStore,
    "http": HttpStore,
    "https": HttpStore,
}
for _scheme, _store in _BUILT_IN.items():
    register_store(_scheme, _store)
