"""The contract of every state store, built-in and third-party."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from rambla_py.state.errors import StateNotReadyError
from rambla_py.state.record import StateRecord, check_key, check_prefix
from rambla_py.state.threads import Threads

__all__ = ["NAMESPACE_END", "NamespaceStore", "StateStore"]

NAMESPACE_END = ":"
"""Between the name of a namespace and the key of a record in it."""


class StateStore(ABC):
    """Keyed records that persist. ``init()`` comes first; ``with`` calls it, and ``close()`` at the end.

    Every method may be called from any thread. No method returns an expired record. Values are what JSON
    holds: a tuple comes back as a list, a date as a string, bytes as base64. Methods raise ``StateError`` and
    its subclasses, and nothing else: ``StateNotReadyError`` before ``init()``, ``StateKeyError`` and
    ``StateValueError`` for what cannot be stored, ``StateQuotaError`` when the store is full,
    ``StateUnavailableError`` when it cannot be reached.

    Each method has an awaitable twin whose name begins with ``a`` (``aget``, ``aset`` ...), and ``async
    with`` opens and closes. ``RedisStore`` waits on the event loop; other stores run the method on one of at
    most eight threads. A cancelled ``await`` does not undo what the method does.

    A store of your own: subclass ``RowStore`` if it keeps rows of bytes, or this class if it is built from
    other stores; ``rambla_py.testing.StateContract`` tests it, and ``from_url`` with ``register_store`` gives
    it a URL.
    """

    def __init__(self) -> None:
        self._ready = False
        self._threads = Threads()

    @classmethod
    def from_url(cls, url: str, **options: Any) -> StateStore:
        """Return the store that a URL names, not yet opened; ``options`` are keyword arguments of the class.

        Raises ``ValueError``, which quotes no secret, for a URL that names no store of this class.
        """
        raise ValueError(f"{cls.__name__} has no from_url(), so that no url can name a store of it")

    @property
    def ready(self) -> bool:
        """Whether ``init()`` was called, and ``close()`` not since."""
        return self._ready

    def init(self) -> None:
        """Open the store, unless it is open. Raises ``StateError``."""
        if not self._ready:
            self._open()
            self._ready = True

    def close(self) -> None:
        """Close the store; may be called twice, and before ``init()``. ``init()`` opens it again."""
        self._threads.close()
        if self._ready:
            self._ready = False
            self._close()

    @abstractmethod
    def get(self, key: str) -> StateRecord | None:
        """Return the record, or None when there is none, or it has expired."""

    def get_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Return the existing records of several keys, by key, in the order of ``keys``."""
        found = ((key, self.get(key)) for key in dict.fromkeys(keys))
        return {key: record for key, record in found if record is not None}

    @abstractmethod
    def get_all(self, prefix: str = "") -> list[StateRecord]:
        """Return every record whose key begins with ``prefix``, sorted by key."""

    @abstractmethod
    def set(
        self,
        key: str,
        value: Any,
        *,
        expires_s: float | None = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> StateRecord:
        """Store a value for ``expires_s`` seconds, or for good; return the record.

        An earlier value is replaced, its expiry too; only ``created_at`` is kept. With ``if_absent`` the
        value is stored only if there is no record; with ``if_version`` only if the record still has this
        version. Otherwise ``StateConflictError`` is raised. Test and write are one step for all processes.
        """

    @abstractmethod
    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Set several keys at once, all or none where the store can; return the records in order.

        All of them are checked before one is written.
        """

    @abstractmethod
    def put(self, record: StateRecord) -> None:
        """Store a record as it is, times and version included: a copy from another store.

        One without a version gets one. One that has expired removes the record of its key.
        """

    @abstractmethod
    def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """Remove a record; return whether there was one.

        Raises ``StateConflictError`` if there is one with a version other than ``if_version``.
        """

    @abstractmethod
    def clear(self, prefix: str = "") -> None:
        """Remove every record whose key begins with ``prefix``."""

    @abstractmethod
    def cleanup_expired(self, prefix: str = "") -> int:
        """Remove expired records whose key begins with ``prefix``; return how many there were."""

    def namespace(self, name: str) -> StateStore:
        """Return a store of the records under ``name``: their keys here begin with ``name`` and a colon.

        It is open if this store is. If it has to open this store, it closes it too.

        >>> from rambla_py.state import MemoryStore
        >>> with MemoryStore() as store:
        ...     record = store.namespace("carts").set("ada", 2)
        ...     record.key, store.get_all()[0].key
        ('ada', 'carts:ada')
        """
        return NamespaceStore(self, name)

    async def ainit(self) -> None:
        """Await ``init``."""
        await self._threads.run(self.init)

    async def aclose(self) -> None:
        """Await ``close``."""
        await self._threads.run(self.close)

    async def aget(self, key: str) -> StateRecord | None:
        """Await ``get``."""
        return await self._threads.run(self.get, key)

    async def aget_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Await ``get_many``."""
        return await self._threads.run(self.get_many, list(keys))

    async def aget_all(self, prefix: str = "") -> list[StateRecord]:
        """Await ``get_all``."""
        return await self._threads.run(self.get_all, prefix)

    async def aset(
        self,
        key: str,
        value: Any,
        *,
        expires_s: float | None = None,
        if_absent: bool = False,
        if_version: str | None = None,
    ) -> StateRecord:
        """Await ``set``."""
        return await self._threads.run(
            self.set, key, value, expires_s=expires_s, if_absent=if_absent, if_version=if_version
        )

    async def aset_many(
        self, values: Mapping[str, Any], *, expires_s: float | None = None
    ) -> list[StateRecord]:
        """Await ``set_many``."""
        return await self._threads.run(self.set_many, values, expires_s=expires_s)

    async def aput(self, record: StateRecord) -> None:
        """Await ``put``."""
        await self._threads.run(self.put, record)

    async def adelete(self, key: str, *, if_version: str | None = None) -> bool:
        """Await ``delete``."""
        return await self._threads.run(self.delete, key, if_version=if_version)

    async def aclear(self, prefix: str = "") -> None:
        """Await ``clear``."""
        await self._threads.run(self.clear, prefix)

    async def acleanup_expired(self, prefix: str = "") -> int:
        """Await ``cleanup_expired``."""
        return await self._threads.run(self.cleanup_expired, prefix)

    def __enter__(self) -> Self:
        self.init()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        await self.ainit()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{self._name()}{'' if self._ready else ', not ready'}>"

    def _open(self) -> None:  # noqa: B027 - nothing to do is right for many
        """Open what the store needs; leave nothing open on failure."""

    def _close(self) -> None:  # noqa: B027 - as above
        """Close it."""

    def _name(self) -> str:
        """Return the store's name in errors, without secrets."""
        return type(self).__name__

    def _check_ready(self) -> None:
        if not self._ready:
            raise StateNotReadyError(self._name())


class NamespaceStore(StateStore):
    """The records of a store whose keys begin with a name; what ``StateStore.namespace`` returns.

    Keys in it are shorter by the name and the colon than those that ``store`` takes.
    """

    def __init__(self, store: StateStore, name: str) -> None:
        super().__init__()
        self._store, self._prefix = store, check_key(name) + NAMESPACE_END
        self._ready = store.ready
        self._opened_store = False

    def get(self, key: str) -> StateRecord | None:
        """Return the record, or None."""
        found = self._inner().get(self._full(key))
        return None if found is None else self._shortened(found)

    def get_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Return the existing records of several keys."""
        return self._by_key(self._inner().get_many([self._full(key) for key in keys]))

    def get_all(self, prefix: str = "") -> list[StateRecord]:
        """Return every record whose key begins with ``prefix``."""
        return [self._shortened(record) for record in self._inner().get_all(self._start(prefix))]

    def set(self, key: str, value: Any, **conditions: Any) -> StateRecord:
        """Store a value."""
        return self._shortened(self._inner().set(self._full(key), value, **conditions))

    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Set several keys at once."""
        full = {self._full(key): value for key, value in values.items()}
        return [self._shortened(record) for record in self._inner().set_many(full, expires_s=expires_s)]

    def put(self, record: StateRecord) -> None:
        """Store a record as it is."""
        self._inner().put(self._lengthened(record))

    def delete(self, key: str, *, if_version: str | None = None) -> bool:
        """Remove a record; return whether there was one."""
        return self._inner().delete(self._full(key), if_version=if_version)

    def clear(self, prefix: str = "") -> None:
        """Remove every record whose key begins with ``prefix``."""
        self._inner().clear(self._start(prefix))

    def cleanup_expired(self, prefix: str = "") -> int:
        """Remove expired records; return how many there were."""
        return self._inner().cleanup_expired(self._start(prefix))

    async def aget(self, key: str) -> StateRecord | None:
        """Await ``get``."""
        found = await self._inner().aget(self._full(key))
        return None if found is None else self._shortened(found)

    async def aget_many(self, keys: Iterable[str]) -> dict[str, StateRecord]:
        """Await ``get_many``."""
        return self._by_key(await self._inner().aget_many([self._full(key) for key in keys]))

    async def aget_all(self, prefix: str = "") -> list[StateRecord]:
        """Await ``get_all``."""
        return [self._shortened(record) for record in await self._inner().aget_all(self._start(prefix))]

    async def aset(self, key: str, value: Any, **conditions: Any) -> StateRecord:
        """Await ``set``."""
        return self._shortened(await self._inner().aset(self._full(key), value, **conditions))

    async def aset_many(
        self, values: Mapping[str, Any], *, expires_s: float | None = None
    ) -> list[StateRecord]:
        """Await ``set_many``."""
        full = {self._full(key): value for key, value in values.items()}
        records = await self._inner().aset_many(full, expires_s=expires_s)
        return [self._shortened(record) for record in records]

    async def aput(self, record: StateRecord) -> None:
        """Await ``put``."""
        await self._inner().aput(self._lengthened(record))

    async def adelete(self, key: str, *, if_version: str | None = None) -> bool:
        """Await ``delete``."""
        return await self._inner().adelete(self._full(key), if_version=if_version)

    async def aclear(self, prefix: str = "") -> None:
        """Await ``clear``."""
        await self._inner().aclear(self._start(prefix))

    async def acleanup_expired(self, prefix: str = "") -> int:
        """Await ``cleanup_expired``."""
        return await self._inner().acleanup_expired(self._start(prefix))

    def _open(self) -> None:
        self._opened_store = not self._store.ready
        self._store.init()

    def _close(self) -> None:
        if self._opened_store:
            self._store.close()

    def _name(self) -> str:
        return f"{self._store._name()}, namespace {self._prefix[:-1]!r}"

    def _inner(self) -> StateStore:
        self._check_ready()
        return self._store

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _start(self, prefix: str) -> str:
        return self._prefix + check_prefix(prefix)

    def _shortened(self, record: StateRecord) -> StateRecord:
        return msgspec.structs.replace(record, key=record.key[len(self._prefix) :])

    def _lengthened(self, record: StateRecord) -> StateRecord:
        return msgspec.structs.replace(record, key=self._full(record.key))

    def _by_key(self, found: Mapping[str, StateRecord]) -> dict[str, StateRecord]:
        records = [self._shortened(record) for record in found.values()]
        return {record.key: record for record in records}
