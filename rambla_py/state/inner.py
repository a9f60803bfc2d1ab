"""The inner stores of a store that is built from others."""

from __future__ import annotations

from typing import Self, overload

from rambla_py.state.errors import StateInUseError
from rambla_py.state.store import StateStore

__all__ = ["InnerStore"]


class InnerStore:
    """An attribute that holds an inner store, which may be set until ``init()`` and after ``close()``."""

    def __set_name__(self, owner: type[StateStore], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, outer: None, owner: type[StateStore]) -> Self: ...

    @overload
    def __get__(self, outer: StateStore, owner: type[StateStore]) -> StateStore: ...

    def __get__(self, outer: StateStore | None, owner: type[StateStore]) -> Self | StateStore:
        if outer is None:
            return self
        inner: StateStore = vars(outer)[self._name]
        return inner

    def __set__(self, outer: StateStore, store: StateStore) -> None:
        if outer.ready:
            raise StateInUseError(type(outer).__name__, self._name)
        if not isinstance(store, StateStore):
            raise TypeError(f"{type(outer).__name__}.{self._name}: expected a StateStore, got {store!r}")
        vars(outer)[self._name] = store
