"""The order of fallback chains."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["chain_of", "closing_order"]

Node = TypeVar("Node")

Successors = Callable[[Node], Iterable[Node]]


def chain_of(first: Node, fallbacks: Successors[Node]) -> list[Node]:
    """Return ``first`` and every node that its deliveries may be handed over to, each once.

    >>> chain_of("a", {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}.__getitem__)
    ['a', 'b', 'd', 'c']
    """
    found: dict[Node, None] = {}
    waiting = [first]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found[node] = None
            waiting.extend(reversed(list(fallbacks(node))))
    return list(found)


def closing_order(nodes: Iterable[Node], fallbacks: Successors[Node]) -> list[list[Node]]:
    """Return ``nodes`` in stages: a node is in a later stage than all nodes that hand over to it.

    >>> closing_order("dcba", {"a": "bc", "b": "d", "c": "", "d": ""}.__getitem__)
    [['a'], ['c', 'b'], ['d']]
    """
    nodes = list(nodes)
    stage = dict.fromkeys(nodes, 0)
    for node in nodes:
        for follower, depth in _below(node, fallbacks):
            stage[follower] = max(stage[follower], depth)
    return [[node for node in nodes if stage[node] == depth] for depth in sorted(set(stage.values()))]


def _below(node: Node, fallbacks: Successors[Node], depth: int = 1) -> Iterator[tuple[Node, int]]:
    """Yield each node reachable from ``node`` with the path's length; the config allows no cycle."""
    for follower in fallbacks(node):
        yield follower, depth
        yield from _below(follower, fallbacks, depth + 1)
