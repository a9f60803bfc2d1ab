"""State store of rambla_py in one JSON file."""

from rambla_shelf.store import ShelfStore

__all__ = ["ShelfStore"]
