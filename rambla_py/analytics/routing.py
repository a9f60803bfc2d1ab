"""Routes of events: the channels, tables and columns for each category and action."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from rambla_py.analytics.columns import Convert, converter
from rambla_py.analytics.events import EVENTS, CustomEvent
from rambla_py.analytics.settings import Rule
from rambla_py.analytics.tables import own_fields, table_events, table_options
from rambla_py.app import Rambla
from rambla_py.channel import Channel
from rambla_py.config.options import accepts
from rambla_py.config.schema import ChannelConfig

__all__ = ["Route", "Router", "channels_of", "tables_of"]

_MOST_PAIRS = 10_000

Publish = Callable[[dict[str, Any]], Any]


class Route(NamedTuple):
    """Where the events of a category and an action go.

    ``channels`` are bound to one table each; ``deliveries`` is how many deliveries an event has on all of
    them. ``columns`` are the own columns of the tables, each with the conversion of its values.
    """

    channels: tuple[Channel, ...]
    deliveries: int
    columns: Mapping[str, Convert]


class Router:
    """Finds the route of a category and an action by the rules, and remembers 10,000 of them.

    >>> app = Rambla({"null": {"channels": {"analytics": {}}}})
    >>> route = Router(app, "analytics", []).route("backend", "api_request")
    >>> [channel.name for channel in route.channels], list(route.columns)[:2]
    (['analytics'], ['method', 'path'])
    """

    def __init__(self, app: Rambla, channel: str, rules: Sequence[Rule]) -> None:
        self._app, self._channel, self._rules = app, channel, rules
        self._routes: dict[tuple[str, str], Route] = {}
        self._bound: dict[Any, Channel] = {}

    def route(self, category: str, action: str) -> Route:
        """Return the route; raises ``OptionError`` and ``UnknownChannelError`` for a rule that is wrong."""
        pair = category, action
        found = self._routes.get(pair)
        if found is None:
            found = self._made(category, action)
            if len(self._routes) < _MOST_PAIRS:
                self._routes[pair] = found
        return found

    def check(self) -> None:
        """Bind the channels of all rules; raises ``OptionError`` and ``UnknownChannelError``."""
        for at in range(len(self._rules)):
            self._of_rule(at, CustomEvent.TABLES)
        for event in EVENTS:
            self.route(event.CATEGORY, event.ACTION)

    def _made(self, category: str, action: str) -> Route:
        tables = next((event.TABLES for event in EVENTS if action == event.ACTION), CustomEvent.TABLES)
        for at, rule in enumerate(self._rules):
            if fnmatchcase(category, rule.category) and fnmatchcase(action, rule.action):
                return self._of_rule(at, tables)
        return self._route(self._channel, tables, {}, {})

    def _of_rule(self, at: int, tables: tuple[str, ...]) -> Route:
        rule = self._rules[at]
        chosen = tuple(dict.fromkeys(rule.tables)) or tables
        return self._route(rule.channel or self._channel, chosen, rule.columns, rule.options)

    def _route(
        self, channel: str, tables: tuple[str, ...], columns: Mapping[str, str], options: Mapping[str, Any]
    ) -> Route:
        targets = channels_of(self._app, channel)
        bound = tuple(self._bind(channel, targets, table, options) for table in tables)
        return Route(bound, len(bound) * len(targets), _conversions(tables, columns))

    def _bind(
        self, channel: str, targets: Sequence[ChannelConfig], table: str, options: Mapping[str, Any]
    ) -> Channel:
        given = {name: _with_table(value, table) for name, value in options.items()}
        if any(accepts(target, "table") for target in targets):
            given["table"] = table
        if not all(accepts(target, "table") for target in targets):
            given["headers"] = {**given.get("headers", {}), "table": table}
        key = (channel, repr(sorted(given.items())))
        found = self._bound.get(key)
        if found is None:
            found = self._app.channel(channel, **given)
            if len(self._bound) < _MOST_PAIRS:
                self._bound[key] = found
        return found


def channels_of(app: Rambla, name: str) -> list[ChannelConfig]:
    """Return the configurations of the targets of a channel; empty if there is none."""
    return [target for target in app.config.every_channel() if name in (target.channel, target.name)]


def tables_of(rules: Iterable[Rule]) -> dict[str, dict[str, Any]]:
    """Return the tables of the events and of the rules, with the options of each.

    >>> list(tables_of([Rule(tables=["order_events"])]))[-1]
    'order_events'
    """
    columns: dict[str, dict[str, str]] = {
        name: {field: one.sql for event in events for field, one in own_fields(event).items()}
        for name, events in table_events().items()
    }
    for rule in rules:
        for table in rule.tables:
            columns[table] = {**columns.get(table, {}), **rule.columns}
    return {name: table_options(own) for name, own in columns.items()}


def _conversions(tables: Iterable[str], columns: Mapping[str, str]) -> dict[str, Convert]:
    built_in = table_events()
    found = {
        name: converter(field.sql, field.minimum)
        for table in tables
        for event in built_in.get(table, ())
        for name, field in own_fields(event).items()
    }
    return {**found, **{name: converter(sql) for name, sql in columns.items()}}


def _with_table(value: Any, table: str) -> Any:
    if isinstance(value, str):
        return value.replace("{table}", table)
    if isinstance(value, Mapping):
        return {name: _with_table(item, table) for name, item in value.items()}
    return value
