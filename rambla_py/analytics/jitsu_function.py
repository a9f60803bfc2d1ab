"""The Jitsu function that puts events into their tables, made from the routing rules."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from rambla_py.analytics.events import EVENTS, CustomEvent
from rambla_py.analytics.routing import tables_of
from rambla_py.analytics.settings import Rule

__all__ = ["jitsu_function"]

_FUNCTION = """\
// Puts the events of rambla_py into their tables. Made by `rambla analytics jitsu-function` from the rules of
// [rambla.analytics]: make it again when they change. Add it to the connection of your destination.
const TABLES = new Set(%(tables)s);
const RULES = %(rules)s.map(
  ([category, action, tables]) => [new RegExp(category, "s"), new RegExp(action, "s"), tables]
);
const BY_ACTION = new Map(%(by_action)s);
const OTHERS = %(others)s;

function tablesOf(category, action) {
  const usual = BY_ACTION.get(action) ?? OTHERS;
  const rule = RULES.find((each) => each[0].test(category) && each[1].test(action));
  return rule?.[2].length ? rule[2] : usual;
}

export default async function (event) {
  const { table, ...context } = event.context ?? {};
  const { event_category, event_action } = event.properties ?? {};
  // A tracker sends an event once for each of its tables, and names the table.
  const tables = TABLES.has(table) ? [table] : tablesOf(event_category ?? "", event_action ?? "");
  const events = tables.map((name) => ({ ...event, context, JITSU_TABLE_NAME: name }));
  return events.length === 1 ? events[0] : events;
}
"""

_SPECIAL = re.compile(r"[\\^$.*+?()\[\]{}|/-]")
_PARTS = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)


def jitsu_function(
    rules: Sequence[Rule], *, channels: Container[str] = ("analytics",), tracker: str = "analytics"
) -> str:
    """Return the source of the function, in JavaScript, for the events that reach some channels.

    ``channels`` are those that lead to Jitsu; ``tracker`` is the tracker's, to which rules without a channel
    lead.

    >>> source = jitsu_function([Rule(category="business", action="order_*", tables=["order_events"])])
    >>> '["^business$","^order_.*$",["order_events"]]' in source
    True
    """
    here = [rule for rule in rules if (rule.channel or tracker) in channels]
    by_action = [(event.ACTION, event.TABLES) for event in EVENTS if event.ACTION]
    return _FUNCTION % {
        "tables": _json(sorted(tables_of(here))),
        "rules": _lines(
            [_pattern(rule.category), _pattern(rule.action), _once(rule.tables)] for rule in here
        ),
        "by_action": _lines(by_action),
        "others": _json(CustomEvent.TABLES),
    }


def _pattern(pattern: str) -> str:
    """Return a regular expression of JavaScript for a pattern of a rule."""
    return f"^{''.join(_translated(pattern))}$"


def _translated(pattern: str) -> Iterator[str]:
    for part in _PARTS.findall(pattern):
        if part in "*?":
            yield ".*" if part == "*" else "."
        elif len(part) > 1:
            negated = part[1] == "!"
            letters = re.sub(r"[\\\]\[^]", r"\\\g<0>", part[1 + negated : -1])
            yield f"[{'^' * negated}{letters}]"
        else:
            yield _SPECIAL.sub(r"\\\g<0>", part)


def _once(tables: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(tables))


def _lines(items: Iterable[Any]) -> str:
    """Return a list with an item on each line."""
    listed = [f"  {_json(item)}" for item in items]
    return "[\n" + ",\n".join(listed) + "\n]" if listed else "[]"


def _json(value: Any) -> str:
    """Return a literal of JavaScript: JSON, which is one since ECMAScript 2019."""
    return msgspec.json.encode(value).decode()
