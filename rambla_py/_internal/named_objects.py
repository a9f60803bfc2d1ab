"""Objects in memory, shared by connection name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Named"]

T = TypeVar("T")


class Named(Generic[T]):
    """Objects by the ``name`` of a connection; one without a name has an object that only its app sees.

    A named object is made when it is first asked for, by the handler or by the application, and stays
    until ``forget``: what an app delivered can be read after the app has stopped. An unnamed one hangs on
    the connection's settings, and goes with the app's configuration. Safe from any thread, without a lock
    that a fork could leave taken: ``dict.setdefault`` is one step.
    """

    def __init__(self, make: Callable[[str], T]) -> None:
        self._make = make
        self._kept: dict[str, T] = {}

    def get(self, name: str) -> T:
        """Return the object of a name, made now if it is the first time."""
        found = self._kept.get(name)
        return self._kept.setdefault(name, self._make(name)) if found is None else found

    def of(self, settings: Any) -> T:
        """Return the object of a connection; ``settings`` needs ``name``, and an attribute dictionary."""
        if settings.name is not None:
            return self.get(settings.name)
        kept: T = vars(settings).setdefault("_kept", self._make("(unnamed)"))
        return kept

    def forget(self, name: str) -> None:
        """Let go of a name; who holds the object keeps it, and the next ``get`` makes another."""
        self._kept.pop(name, None)
