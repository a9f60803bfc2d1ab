"""The upsert of SQLite, PostgreSQL and the databases that follow them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rambla_py.sql.dialect import SqlDialect

__all__ = ["on_conflict"]


def on_conflict(dialect: SqlDialect, names: Sequence[str], key: str) -> str:
    """Return ``ON CONFLICT (key) DO UPDATE`` for all other columns."""
    others = [dialect.quote(name) for name in names if name != key]
    if not others:
        return f"ON CONFLICT ({dialect.quote(key)}) DO NOTHING"
    pairs = [f"{name} = excluded.{name}" for name in others]
    return f"ON CONFLICT ({dialect.quote(key)}) DO UPDATE SET {', '.join(pairs)}"
