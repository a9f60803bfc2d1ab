"""This module checks that fallbacks lead somewhere, and not round in a circle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from rambla_py.config.findings import Findings, joined
from rambla_py.config.node import Node

__all__ = ["check_fallbacks", "fallback_cycle"]


class _Fallback(msgspec.Struct, frozen=True):
    channel: str
    to: str
    path: str
    node: Node


def check_fallbacks(tables: Mapping[str, Node], findings: Findings) -> None:
    """Note fallbacks in the tables of all services that name no channel, or form a cycle."""
    names = list(dict.fromkeys(channel for table in tables.values() for channel, _ in _channels(table)))
    followers: dict[str, dict[str, _Fallback]] = {}
    for fallback in _fallbacks(tables):
        followers.setdefault(fallback.channel, {})[fallback.to] = fallback
        if fallback.to not in names and not findings.incomplete:
            others = [name for name in names if name != fallback.channel]
            findings.unknown(
                fallback.path, others, what="the name of a channel", node=fallback.node, name=fallback.to
            )
    cycle = fallback_cycle(followers)
    if cycle:
        first = followers[cycle[0]][cycle[1]]
        expected, got = "fallbacks that come to an end", " -> ".join(cycle)
        findings.problem(first.path, expected=expected, got=got, file=first.node.file)


def fallback_cycle(followers: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names of a cycle in the fallbacks of channels, the first one again at its end; or nothing.

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
            if node is not None and isinstance(node.value, str) and not node.failed:
                path = joined(joined(joined(joined("", service), "channels"), channel), "fallback")
                yield _Fallback(channel, node.value, path, node)
