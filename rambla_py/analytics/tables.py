"""The tables of the events, made from their structs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from types import MappingProxyType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from rambla_py.analytics.events import EVENTS, Event

__all__ = ["TABLES", "Field", "fields_of", "own_fields", "table_events", "table_options"]

_HEAD = ("id", "event", "event_category", "event_action", "timestamp")
_TAIL = ("user_id", "sample_rate", "context", "properties")
_SQL: Mapping[Any, str] = {
    str: "text",
    int: "bigint",
    float: "double",
    bool: "boolean",
    Decimal: "numeric(38, 9)",
    dict: "json",
}


class Field(NamedTuple):
    """A field of an event: its name, Python type, SQL type, meaning, and least value if it has one."""

    name: str
    type: type
    sql: str
    about: str
    minimum: float | None = None


@cache
def fields_of(event: type[Event]) -> dict[str, Field]:
    """Return the fields of an event in the order of its columns.

    >>> from rambla_py.analytics.events import Payment
    >>> list(fields_of(Payment))[5:9]
    ['payment_action', 'payment_amount', 'payment_currency', 'payment_success']
    >>> fields_of(Payment)["payment_amount"].sql
    'numeric(38, 9)'
    """
    hints = get_type_hints(event, include_extras=True)
    own = tuple(name for name in event.__annotations__ if name in event.__struct_fields__)
    names = (*_HEAD, *own, *_TAIL) if event is not Event else (*_HEAD, *_TAIL)
    return {name: _field(name, hints[name]) for name in dict.fromkeys(names)}


def own_fields(event: type[Event]) -> dict[str, Field]:
    """Return the fields of an event that are not common to all events.

    >>> from rambla_py.analytics.events import UserAuthentication
    >>> list(own_fields(UserAuthentication))
    ['auth_action', 'user_id', 'auth_success']
    """
    fields = fields_of(event)
    return {name: fields[name] for name in event.__annotations__ if name in fields}


@cache
def table_events() -> dict[str, list[type[Event]]]:
    """Return the events of each table, the one that is first in its list by its first event.

    >>> [event.__name__ for event in table_events()["database_events"]]
    ['DatabaseQuery', 'DatabaseConnection']
    """
    names = (*(event.TABLES[0] for event in EVENTS), "custom_events")
    tables: dict[str, list[type[Event]]] = {name: [] for name in names}
    for event in EVENTS:
        for table in event.TABLES:
            tables[table].append(event)
    return tables


def table_options(columns: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of a table with these columns, by SQL type, beside the common ones.

    It is what ``tables`` of the ``sql`` and ``clickhouse`` handlers takes.

    >>> table_options({"total": "numeric(38, 9)"})["columns"]["total"]
    'payload.total::numeric(38, 9)'
    """
    common = fields_of(Event)
    head = {name: common[name].sql for name in _HEAD}
    tail = {name: common[name].sql for name in _TAIL if name not in columns}
    every = {**head, **columns, **tail}
    sources = {name: f"payload.{name}::{sql}" for name, sql in every.items() if name != "id"}
    return {
        "columns": sources,
        "id_column": "id",
        "json_column": "",
        "upsert": True,
        "indexes": ["timestamp"],
    }


def _field(name: str, hint: Any) -> Field:
    kind, meta = get_args(hint)[:2]
    if get_origin(kind) in (Union, UnionType):
        kind = next(one for one in get_args(kind) if one is not type(None))
    minimum = None
    if get_origin(kind) is Annotated:
        kind, bounds = get_args(kind)[:2]
        minimum = bounds.ge
    kind = get_origin(kind) or kind
    sql = (meta.extra or {}).get("sql") or _SQL[kind]
    return Field(name, kind, sql, meta.description, minimum)


def _own_columns(events: list[type[Event]]) -> dict[str, str]:
    return {name: field.sql for event in events for name, field in own_fields(event).items()}


TABLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {name: table_options(_own_columns(events)) for name, events in table_events().items()}
)
"""The nine tables and ``custom_events``, as the handlers of ``sql`` and ``clickhouse`` take ``tables``."""
