"""Errors of state stores, drawn as a tree.

::

    RamblaError
    └── StateError
        ├── StateNotReadyError      a method called before init(), or after close()
        ├── StateInUseError         an inner store cannot be replaced after init()
        ├── StateKeyError           a key that no store accepts
        ├── StateValueError         a value, or a time, that cannot be kept
        │   └── StateTooLargeError  a value over the store's limit
        ├── StateConflictError      the condition of a write does not hold
        ├── StateQuotaError         the store is full
        ├── StateDecryptError       a record that the given keys do not decrypt
        ├── StateCorruptError       the stored data is not a record
        └── StateUnavailableError   the store did not answer           .applied
            └── StateAccessError    it refused access
"""

from __future__ import annotations

from typing import Literal

from rambla_py.errors import RamblaError

__all__ = [
    "Applied",
    "StateAccessError",
    "StateConflictError",
    "StateCorruptError",
    "StateDecryptError",
    "StateError",
    "StateInUseError",
    "StateKeyError",
    "StateNotReadyError",
    "StateQuotaError",
    "StateTooLargeError",
    "StateUnavailableError",
    "StateValueError",
]

Applied = Literal["no", "unknown"]
"""Whether a write that was not confirmed was applied."""


class StateError(RamblaError):
    """The root of the errors of state stores."""


class StateNotReadyError(StateError):
    """A method was called before ``init()``, or after ``close()``."""

    def __init__(self, store: str) -> None:
        self.store = store
        super().__init__(f"{store} is not ready: call init() first, or use it in a 'with' block")


class StateInUseError(StateError):
    """An inner store cannot be replaced while it is in use."""

    def __init__(self, store: str, part: str) -> None:
        self.store, self.part = store, part
        super().__init__(f"{store}.{part} cannot be set after init(): close() the store first")


class StateKeyError(StateError):
    """A key that no store accepts; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the key of a record: {reason}")


class StateValueError(StateError):
    """A value that cannot be kept; ``path`` leads to it, ``reason`` says why."""

    def __init__(self, key: str, path: str, reason: str) -> None:
        self.key, self.path, self.reason = key, path, reason
        super().__init__(f"record {key!r}: at {path}: {reason}")


class StateTooLargeError(StateValueError):
    """A value over the store's limit; sizes in bytes."""

    def __init__(self, key: str, size: int, limit: int, what: str = "the store's limit") -> None:
        self.size, self.limit, self.what = size, limit, what
        super().__init__(key, "$", f"{size} bytes; {what} is {limit}")


class StateConflictError(StateError):
    """The condition of a write does not hold (``if_absent``, ``if_version``); nothing was written."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"record {key!r} was left as it is: {reason}")


class StateQuotaError(StateError):
    """The store is full: delete records, call ``cleanup_expired()``, or enlarge it."""

    def __init__(self, store: str, reason: str) -> None:
        self.store, self.reason = store, reason
        super().__init__(f"{store} is full: {reason}; nothing was written")


class StateDecryptError(StateError):
    """A record that the given keys do not decrypt."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"record {key!r} cannot be decrypted: {reason}")


class StateCorruptError(StateError):
    """The stored data is not a record or not a store; ``where`` names the place."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where} is damaged, or was not written by rambla_py: {reason}")


class StateUnavailableError(StateError):
    """The store did not answer; ``applied`` is what is known of a write.

    After ``"no"`` nothing was written, after ``"unknown"`` it may have been. A method without a condition may
    be called again: it has the same effect. One with a condition may then raise ``StateConflictError``
    because of its own first call; ``get`` shows which.
    """

    def __init__(self, store: str, reason: str, *, applied: Applied = "no") -> None:
        self.store, self.reason, self.applied = store, reason, applied
        super().__init__(f"{store}: {reason}")


class StateAccessError(StateUnavailableError):
    """The store refused access: credentials, certificate or permissions. An operator must act."""
