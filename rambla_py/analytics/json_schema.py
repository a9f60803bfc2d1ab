"""The JSON Schema of the events, made from their structs."""

from __future__ import annotations

from typing import Any

import msgspec

from rambla_py.analytics.errors import AnalyticsError
from rambla_py.analytics.events import EVENTS, Event
from rambla_py.analytics.tables import fields_of, table_events
from rambla_py.errors import nearest

__all__ = ["event_schema"]


def event_schema(table: str | None = None) -> dict[str, Any]:
    """Return the JSON Schema of the events of a table, or of all; raises ``AnalyticsError``.

    >>> [one["$ref"] for one in event_schema("database_events")["anyOf"]]
    ['#/$defs/DatabaseQuery', '#/$defs/DatabaseConnection']
    """
    events = list(EVENTS)
    if table is not None:
        tables = table_events()
        if table not in tables:
            close = nearest(table, tables)
            hint = f"; did you mean {close!r}?" if close else f"; known: {', '.join(tables)}"
            raise AnalyticsError(f"no table {table!r}{hint}")
        events = tables[table]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": table or "events",
        "anyOf": [{"$ref": f"#/$defs/{event.__name__}"} for event in events],
        "$defs": {event.__name__: _schema_of(event) for event in events},
    }


def _schema_of(event: type[Event]) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([event], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = components[event.__name__]
    found = schema["properties"]
    properties = {name: found[name] for name in fields_of(event)}
    if event.EVENT:  # a custom one has any name
        for name, value in (("event", event.EVENT), ("event_action", event.ACTION)):
            properties[name] = {**properties[name], "const": value}
    return {**schema, "properties": properties}
