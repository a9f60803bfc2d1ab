"""Digests of payloads, which tell messages with the same given id apart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rambla_py.outbox.rows import Row

__all__ = ["DUPLICATE", "digest_of"]

DUPLICATE: Final = "rambla: an id with another payload"
"""The message of the error that the trigger of a SQLite journal raises."""


def digest_of(row: Row) -> bytes:
    """Return 16 bytes that differ for different payloads."""
    return hashlib.blake2b(row.payload, digest_size=16).digest()
