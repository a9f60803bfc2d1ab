"""This module draws every error that a state store raises.

::

    RamblaError
    └── StateError
        ├── StateNotReadyError      a verb before init(), or after close()
        ├── StateInUseError         an inner store was to be replaced after init()
        ├── StateKeyError           a key that no store takes
        ├── StateValueError         a value, or a time, that cannot be kept
        │   └── StateTooLargeError  a value over the store's limit
        ├── StateQuotaError         the store has no room
        ├── StateDecryptError       a record that the keys at hand do not open
        ├── StateCorruptError       what is kept is no record
        └── StateUnavailableError   the store did not answer           .applied
            └── StateAccessError    it refused us
"""

from __future__ import annotations

from typing import Literal

from rambla_py.errors import RamblaError

__all__ = [
    "Applied",
    "StateAccessError",
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
"""What became of a write that was not confirmed."""


class StateError(RamblaError):
    """The root of what a state store raises."""


class StateNotReadyError(StateError):
    """A verb was called before ``init()``, or after ``close()``."""

    def __init__(self, store: str) -> None:
        self.store = store
        super().__init__(f"{store} is not ready: call init() first, or use it in a 'with' block")


class StateInUseError(StateError):
    """An inner store was to be replaced while it is in use."""

    def __init__(self, store: str, part: str) -> None:
        self.store, self.part = store, part
        super().__init__(f"{store}.{part} cannot be set after init(): close() the store first")


class StateKeyError(StateError):
    """A key that no store takes; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"a key of a record: {reason}")


class StateValueError(StateError):
    """A value that cannot be kept: ``path`` leads to it, ``reason`` says why."""

    def __init__(self, key: str, path: str, reason: str) -> None:
        self.key, self.path, self.reason = key, path, reason
        super().__init__(f"record {key!r}: at {path}: {reason}")


class StateTooLargeError(StateValueError):
    """A value over the store's limit; sizes in bytes."""

    def __init__(self, key: str, size: int, limit: int, what: str = "the store's limit") -> None:
        self.size, self.limit, self.what = size, limit, what
        super().__init__(key, "$", f"{size} bytes; {what} is {limit}")


class StateQuotaError(StateError):
    """The store has no room: delete records, call ``cleanup_expired()``, or give it more."""

    def __init__(self, store: str, reason: str) -> None:
        self.store, self.reason = store, reason
        super().__init__(f"{store} has no room: {reason}; nothing was written")


class StateDecryptError(StateError):
    """A record that the keys at hand do not open."""

    def __init__(self, key: str, reason: str) -> None:
        self.key, self.reason = key, reason
        super().__init__(f"record {key!r} cannot be decrypted: {reason}")


class StateCorruptError(StateError):
    """What is kept is no record, or no store; ``where`` says what to look at."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where} is damaged, or was not written by rambla_py: {reason}")


class StateUnavailableError(StateError):
    """The store did not answer as it should; ``applied`` says whether a write may have happened.

    After ``"no"`` nothing was written. After ``"unknown"`` it may have been; each verb may be called again,
    since it then does the same once more.
    """

    def __init__(self, store: str, reason: str, *, applied: Applied = "no") -> None:
        self.store, self.reason, self.applied = store, reason, applied
        super().__init__(f"{store}: {reason}")


class StateAccessError(StateUnavailableError):
    """The store refused us: credentials, certificate, or rights. A person must act."""
