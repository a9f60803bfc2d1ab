"""Buckets of messages: the shares of a PostgreSQL journal."""

from __future__ import annotations

import itertools
import zlib

from rambla_py.outbox.postgres.tables import BUCKETS

__all__ = ["any_bucket", "bucket_of"]

_turns = itertools.count()


def bucket_of(key: str) -> int:
    """Return the bucket of a key, which is the same in every process.

    >>> bucket_of("customer-7") == bucket_of("customer-7")
    True
    """
    return zlib.crc32(key.encode()) % BUCKETS


def any_bucket() -> int:
    """Return the next bucket in turn, for messages without a key."""
    return next(_turns) % BUCKETS
