"""Checks that every fallback exists and that none is circular."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from rambla_py.config.problems import ProblemList, joined
from rambla_py.config.raw_tree import Node

__all__ = ["check_fallbacks", "fallback_cycle"]


class _Fallback(msgspec.Struct, frozen=True):
    target: str
    to: str
    path: str
    node: Node
    in_list: bool


def check_fallbacks(tables: Mapping[str, Node], problems: ProblemList) -> None:
    """Report fallbacks of all services that name no channel, or that form a cycle.

    A fallback names a channel, or ``service.channel`` for one of its targets.
    """
    targets: dict[str, list[str]] = {}
    for service, table in tables.items():
        for channel, _ in _channels(table):
            targets.setdefault(channel, []).append(f"{service}.{channel}")
    targets |= {name: [name] for names in list(targets.values()) for name in names}
    having = {fallback.target for fallback in _fallbacks(tables)}
    followers: dict[str, dict[str, _Fallback]] = {}
    for fallback in _fallbacks(tables):
        for name in targets.get(fallback.to, ()):
            followers.setdefault(fallback.target, {})[name] = fallback
        if fallback.to not in targets and not problems.incomplete:
            dotted = "." in fallback.to
            others = [
                name for name in targets if fallback.target not in targets[name] and dotted >= ("." in name)
            ]
            problems.unknown(
                fallback.path, others, what="the name of a channel", node=fallback.node, name=fallback.to
            )
        if fallback.in_list and having.intersection(targets.get(fallback.to, ())):
            problems.add(
                fallback.path,
                expected="a channel without a fallback of its own, because the list gives the order",
                got=repr(fallback.to),
                file=fallback.node.file,
            )
    cycle = fallback_cycle(followers)
    if cycle:
        first = followers[cycle[0]][cycle[1]]
        expected, got = "fallbacks without a cycle", " -> ".join(cycle)
        problems.add(first.path, expected=expected, got=got, file=first.node.file)


def fallback_cycle(followers: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names of a cycle in the fallbacks of targets, with the first repeated at the end; or [].

    >>> fallback_cycle({"a": ["b"], "b": ["c"], "c": ["b"]})
    ['b', 'c', 'b']
    """
    finished: set[str] = set()
    for start in followers:
        cycle = _cycle_from(start, followers, [], finished)
        if cycle:
            return cycle
    return []


def _cycle_from(
    name: str, followers: Mapping[str, Iterable[str]], trail: list[str], finished: set[str]
) -> list[str]:
    if name in trail:
        return [*trail[trail.index(name) :], name]
    if name in finished:
        return []
    for follower in followers.get(name, ()):
        cycle = _cycle_from(follower, followers, [*trail, name], finished)
        if cycle:
            return cycle
    finished.add(name)
    return []


def _channels(table: Node) -> Iterator[tuple[str, Node]]:
    channels = table.get("channels")
    if channels is not None and channels.is_table:
        yield from channels.value.items()


def _fallbacks(tables: Mapping[str, Node]) -> Iterator[_Fallback]:
    for service, table in tables.items():
        for channel, settings in _channels(table):
            node = settings.get("fallback")
            if node is None or node.failed:
                continue
            path = joined(joined(joined(joined("", service), "channels"), channel), "fallback")
            target, in_list = f"{service}.{channel}", isinstance(node.value, list)
            for at, one in enumerate(node.value if in_list else [node]):
                if isinstance(one.value, str) and not one.failed:
                    yield _Fallback(target, one.value, f"{path}[{at}]" if in_list else path, one, in_list)
