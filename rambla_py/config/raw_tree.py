"""Raw tree of a configuration: unchecked values, each with the file it came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Node", "merge", "plain", "wrap"]


class Node(msgspec.Struct, frozen=True, eq=False):
    """One value of the raw configuration; a table holds a ``dict[str, Node]``, a list a ``list[Node]``.

    ``lenient`` values are strings because their source has no types (a whole ``${...}``, the environment);
    they are converted to the declared type. ``final`` values are not interpolated again; ``failed`` values
    have already been reported; ``hidden`` values must be masked.
    """

    value: Any
    file: str | None = None
    lenient: bool = False
    final: bool = False
    failed: bool = False
    hidden: bool = False

    @property
    def is_table(self) -> bool:
        """Whether this is a table."""
        return isinstance(self.value, dict)

    def get(self, key: str) -> Node | None:
        """Return the node of a key; None without one, or if this is not a table."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def without(self, *keys: str) -> Node:
        """Return this table without some of its keys."""
        kept = {key: node for key, node in self.value.items() if key not in keys}
        return msgspec.structs.replace(self, value=kept)


def wrap(value: Any, file: str | None = None) -> Node:
    """Return the raw tree of plain data.

    >>> wrap({"a": {"b": 1}}).get("a").get("b").value
    1
    """
    if isinstance(value, Mapping):
        return Node({str(key): wrap(item, file) for key, item in value.items()}, file)
    if isinstance(value, list | tuple):
        return Node([wrap(item, file) for item in value], file)
    return Node(value, file)


def plain(node: Node) -> Any:
    """Return the plain data of a tree.

    >>> plain(wrap({"a": [1, {"b": 2}]}))
    {'a': [1, {'b': 2}]}
    """
    if isinstance(node.value, dict):
        return {key: plain(item) for key, item in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def merge(base: Node, over: Node) -> Node:
    """Merge one tree over another: tables merge key by key, anything else is replaced.

    >>> plain(merge(wrap({"a": {"x": 1, "y": 1}}), wrap({"a": {"y": 2}})))
    {'a': {'x': 1, 'y': 2}}
    """
    if not (base.is_table and over.is_table):
        return over
    merged = dict(base.value)
    for key, node in over.value.items():
        merged[key] = merge(merged[key], node) if key in merged else node
    return msgspec.structs.replace(over, value=merged)
