"""Persistent keyed records: the same methods over SQLite, files, Redis, memory or a server.

::

    with SqliteStore("state.db") as store:
        store.set("cart-7", {"lines": 2}, expires_s=3600)
        store.get("cart-7").value
"""

from rambla_py.state.encrypted import EncryptedStore, generate_key, parse_keys
from rambla_py.state.errors import (
    StateAccessError,
    StateConflictError,
    StateCorruptError,
    StateDecryptError,
    StateError,
    StateInUseError,
    StateKeyError,
    StateNotReadyError,
    StateQuotaError,
    StateTooLargeError,
    StateUnavailableError,
    StateValueError,
)
from rambla_py.state.file import FileStore
from rambla_py.state.http import HttpStore
from rambla_py.state.hybrid import HybridStore
from rambla_py.state.memory import MemoryStore, forget_memory
from rambla_py.state.record import RemoveRule, Row, StateRecord, WriteRule
from rambla_py.state.redis import RedisStore
from rambla_py.state.rows import RowStore
from rambla_py.state.sqlite import SqliteStore
from rambla_py.state.store import StateStore
from rambla_py.state.urls import find_store, register_store, store_from_url, store_schemes

__all__ = [
    "EncryptedStore",
    "FileStore",
    "HttpStore",
    "HybridStore",
    "MemoryStore",
    "RedisStore",
    "RemoveRule",
    "Row",
    "RowStore",
    "SqliteStore",
    "StateAccessError",
    "StateConflictError",
    "StateCorruptError",
    "StateDecryptError",
    "StateError",
    "StateInUseError",
    "StateKeyError",
    "StateNotReadyError",
    "StateQuotaError",
    "StateRecord",
    "StateStore",
    "StateTooLargeError",
    "StateUnavailableError",
    "StateValueError",
    "WriteRule",
    "find_store",
    "forget_memory",
    "generate_key",
    "parse_keys",
    "register_store",
    "store_from_url",
    "store_schemes",
]
