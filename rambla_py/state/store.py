"""This module is the contract that every state store fulfils, ours and a stranger's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, overload

from rambla_py.state.errors import StateInUseError, StateNotReadyError
from rambla_py.state.record import StateRecord

__all__ = ["Part", "StateStore"]


class StateStore(ABC):
    """Keyed records that persist. ``init()`` comes first; ``with`` calls it, and ``close()`` at the end.

    Every verb may be called from any thread. An expired record is not there, for any verb. Values are what
    JSON holds: a tuple comes back as a list, a date as text, bytes as base64. Verbs raise ``StateError`` and
    its children, and nothing else: ``StateNotReadyError`` before ``init()``, ``StateKeyError`` and
    ``StateValueError`` for what cannot be kept, ``StateQuotaError`` without room,
    ``StateUnavailableError`` when the store cannot be reached.

    A store of your own: subclass ``RowStore`` when it keeps rows of bytes, or this class when it is built
    from other stores; ``rambla_py.testing.StateContract`` tells whether it is right.
    """

    def __init__(self) -> None:
        self._ready = False

    @property
    def ready(self) -> bool:
        """Whether ``init()`` was called, and ``close()`` not since."""
        return self._ready

    def init(self) -> None:
        """Open the store; nothing happens when it is open. Raises ``StateError`` when that fails."""
        if not self._ready:
            self._open()
            self._ready = True

    def close(self) -> None:
        """Close the store; may be called twice, and before ``init()``. ``init()`` opens it again."""
        if self._ready:
            self._ready = False
            self._shut()

    def set(self, key: str, value: Any, *, expires_s: float | None = None) -> StateRecord:
        """Keep a value, from now on, for ``expires_s`` seconds or for good; return the record.

        What was set before is replaced, its expiry too; only ``created_at`` stays.
        """
        return self.set_many({key: value}, expires_s=expires_s)[0]

    @abstractmethod
    def get(self, key: str) -> StateRecord | None:
        """Return the record, or None when there is none, or none any more."""

    @abstractmethod
    def set_many(self, values: Mapping[str, Any], *, expires_s: float | None = None) -> list[StateRecord]:
        """Set several keys at once, all or none where the store can; return the records in order.

        All of them are checked before one is written.
        """

    @abstractmethod
    def put(self, record: StateRecord) -> None:
        """Keep a record as it is, its times too: a copy from another store. An expired one is not there."""

    @abstractmethod
    def delete(self, key: str) -> bool:
        """Remove a record; say whether there was one."""

    @abstractmethod
    def get_all(self) -> list[StateRecord]:
        """Return every record, sorted by key."""

    @abstractmethod
    def clear(self) -> None:
        """Remove every record."""

    @abstractmethod
    def cleanup_expired(self) -> int:
        """Free the room that expired records take; return how many there were."""

    def __enter__(self) -> Self:
        self.init()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self._name()}{'' if self._ready else ', not ready'}>"

    def _open(self) -> None:  # noqa: B027 - nothing to do is right for many
        """Do what ``init()`` is for; leave nothing open when it fails."""

    def _shut(self) -> None:  # noqa: B027 - as above
        """Do what ``close()`` is for."""

    def _name(self) -> str:
        """Return what errors call this store, without secrets."""
        return type(self).__name__

    def _check_ready(self) -> None:
        if not self._ready:
            raise StateNotReadyError(self._name())


class Part:
    """An attribute that holds an inner store, which may be set until ``init()`` and after ``close()``."""

    def __set_name__(self, owner: type[StateStore], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, whole: None, owner: type[StateStore]) -> Self: ...

    @overload
    def __get__(self, whole: StateStore, owner: type[StateStore]) -> StateStore: ...

    def __get__(self, whole: StateStore | None, owner: type[StateStore]) -> Self | StateStore:
        if whole is None:
            return self
        found: StateStore = vars(whole)[self._name]
        return found

    def __set__(self, whole: StateStore, store: StateStore) -> None:
        if whole.ready:
            raise StateInUseError(type(whole).__name__, self._name)
        if not isinstance(store, StateStore):
            raise TypeError(f"{type(whole).__name__}.{self._name}: expected a StateStore, got {store!r}")
        vars(whole)[self._name] = store
