"""The JSON Schema of a configuration file, for editors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from rambla_py.config.analytics_table import analytics_struct
from rambla_py.config.options import OptionField, declared, reserved
from rambla_py.config.reserved import PER_MESSAGE
from rambla_py.config.schema import (
    ChannelSettings,
    OutboxSettings,
    RamblaSettings,
    TelemetrySettings,
    WebSettings,
)
from rambla_py.config.struct_fields import Field, fields_of, is_struct
from rambla_py.errors import HandlerError
from rambla_py.handler import Handler
from rambla_py.registry import find_handler, handler_names

__all__ = ["json_schema"]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
INTERPOLATED: Final = {"type": "string", "pattern": r"^\$\{.*\}$"}
"""Allowed in place of any value: a string that is a single ``${...}``."""

INCLUDE: Final = {
    "type": "array",
    "items": {"type": "string"},
    "description": "files that this one is merged over",
}
_ANNOTATIONS: Final[tuple[str, ...]] = ("title", "description", "default", "x-rambla-per")


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a configuration file, with every handler that can be loaded.

    No key is required: it may be in an included file or in the environment.

    >>> json_schema()["properties"]["rambla"]
    {'$ref': '#/$defs/rambla'}
    """
    handlers = _handlers()
    defs: dict[str, Any] = {}
    for name, handler in handlers.items():
        _define_handler(name, handler, defs)
    _define_service(handlers, defs)
    _define_rambla(handlers, defs)
    return {
        "$schema": DIALECT,
        "title": "rambla_py configuration",
        "type": "object",
        "properties": {
            "rambla": {"$ref": "#/$defs/rambla"},
            "include": INCLUDE,
            **{name: _named_service(name) for name in handlers},
        },
        "additionalProperties": {"$ref": "#/$defs/service"},
        "$defs": defs,
    }


def _handlers() -> dict[str, type[Handler]]:
    found = {}
    for name in handler_names():
        try:
            handler = find_handler(name)
            declared(handler)
        except HandlerError:
            continue
        found[name] = handler
    return found


def _define_handler(name: str, handler: type[Handler], defs: dict[str, Any]) -> None:
    shape = handler.Connection
    connection = _properties(fields_of(shape), defs, name) if is_struct(shape) else None
    options = {"$ref": f"#/$defs/{name}.options"}
    defs[f"{name}.options"] = _options(declared(handler), defs, name, anything=handler.Options is dict)
    defs[f"{name}.connection"] = (
        {"type": "object"} if connection is None else _table({**connection, "options": options})
    )
    defs[f"{name}.service"] = _service({"$ref": f"#/$defs/{name}.connection"}, options, defs)


def _define_service(handlers: Mapping[str, type[Handler]], defs: dict[str, Any]) -> None:
    """Define a service with any name: the schema of the handler it names if known, else any table."""
    known = [
        {
            "if": {"required": ["handler"], "properties": {"handler": {"const": name}}},
            "then": {"$ref": f"#/$defs/{name}.service"},
        }
        for name in handlers
    ]
    free = _service({"type": "object"}, {"type": "object"}, defs)
    defs["service"] = {**free, "required": ["handler"], "allOf": known}


def _define_rambla(handlers: Mapping[str, type[Handler]], defs: dict[str, Any]) -> None:
    tables = ("options", "outbox", "telemetry", "web", "analytics")
    fields = [field for field in fields_of(RamblaSettings) if field.name not in tables]
    options = _options({}, defs, "rambla", anything=any(one.Options is dict for one in handlers.values()))
    # Handlers may give one name different types, so any value is allowed here.
    options["properties"].update(
        {
            name: {"description": field.description}
            for handler in handlers.values()
            for name, field in declared(handler).items()
        }
    )
    outbox = _table(_properties(fields_of(OutboxSettings), defs, "rambla"))
    try:
        analytics = _table(_properties(fields_of(analytics_struct()), defs, "rambla"))
    except HandlerError:  # its packages are not installed
        analytics = {"type": "object"}
    telemetry = _table(_properties(fields_of(TelemetrySettings), defs, "rambla"))
    web = _table(_properties(fields_of(WebSettings), defs, "rambla"))
    more = {
        "include": INCLUDE,
        "options": options,
        "outbox": outbox,
        "telemetry": telemetry,
        "web": web,
        "analytics": analytics,
    }
    defs["rambla"] = _table({**_properties(fields, defs, "rambla"), **more})


def _service(connection: dict[str, Any], options: dict[str, Any], defs: dict[str, Any]) -> dict[str, Any]:
    channel = {
        "connection": {"type": "string", "description": "the name of one of the service's connections"},
        **_properties(fields_of(ChannelSettings), defs, "rambla"),
        "options": options,
    }
    return _table(
        {
            "handler": {"type": "string", "description": 'the name of a handler, or "module:Class"'},
            "options": options,
            "connections": {"type": "object", "additionalProperties": connection},
            "channels": {"type": "object", "additionalProperties": _table(channel)},
        }
    )


def _options(
    own: Mapping[str, OptionField], defs: dict[str, Any], owner: str, *, anything: bool
) -> dict[str, Any]:
    properties = {name: _option(field, defs, owner) for name, field in own.items()}
    for name, field in reserved().items():
        if name not in PER_MESSAGE:
            properties[name] = _option(field, defs, "rambla")
    return {**_table(properties), "additionalProperties": anything}


def _option(field: OptionField, defs: dict[str, Any], owner: str) -> dict[str, Any]:
    schema = _schema_of(field.type, defs, owner)
    if field.per_channel:
        schema["x-rambla-per"] = "channel"
    return _with_default(schema, field.default)


def _properties(fields: list[Field], defs: dict[str, Any], owner: str) -> dict[str, Any]:
    return {field.key: _with_default(_schema_of(field.type, defs, owner), field.default) for field in fields}


def _schema_of(declared_type: Any, defs: dict[str, Any], owner: str) -> dict[str, Any]:
    described = msgspec.json.schema_components(
        [declared_type], schema_hook=_custom, ref_template=f"#/$defs/{owner}.{{name}}"
    )
    (schema,), components = _through_json(described)  # defaults of nested structs may be tuples
    defs.update({f"{owner}.{name}": _strict(component) for name, component in components.items()})
    return _open_to_interpolation(schema)


def _table(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _named_service(name: str) -> dict[str, Any]:
    """A table with the name of a handler belongs to that handler, unless it names another."""
    return {
        "if": {"required": ["handler"]},
        "then": {"$ref": "#/$defs/service"},
        "else": {"$ref": f"#/$defs/{name}.service"},
    }


def _custom(declared_type: Any) -> dict[str, Any]:
    """Secrets are strings; other types of a handler's own are unknown."""
    return {"type": "string"} if getattr(declared_type, "__name__", "") == "Secret" else {}


def _with_default(schema: dict[str, Any], default: Any) -> dict[str, Any]:
    if default is msgspec.NODEFAULT or default is None:
        return schema
    try:
        return {**schema, "default": _through_json(default)}
    except TypeError:
        return schema


def _through_json(value: Any) -> Any:
    """Return a value as JSON gives it back: a tuple becomes a list, which it never equals."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _strict(component: dict[str, Any]) -> dict[str, Any]:
    """Adapt a nested table to the checks: no unknown keys, nothing required, strings interpolated."""
    if "properties" not in component:
        return component
    properties = {name: _open_to_interpolation(schema) for name, schema in component["properties"].items()}
    kept = {key: value for key, value in component.items() if key != "required"}
    return {**kept, "properties": properties, "additionalProperties": False}


def _open_to_interpolation(schema: dict[str, Any]) -> dict[str, Any]:
    """Allow a ``${...}`` in place of the value, unless any string is allowed."""
    outer = {key: schema[key] for key in _ANNOTATIONS if key in schema}
    inner = {key: value for key, value in schema.items() if key not in _ANNOTATIONS}
    if "items" in inner and isinstance(inner["items"], dict):
        inner["items"] = _open_to_interpolation(inner["items"])
    if isinstance(inner.get("additionalProperties"), dict):
        inner["additionalProperties"] = _open_to_interpolation(inner["additionalProperties"])
    if not inner or inner == {"type": "string"}:
        return {**outer, **inner}
    return {**outer, "anyOf": [*_choices(inner), INTERPOLATED]}


def _choices(inner: dict[str, Any]) -> list[dict[str, Any]]:
    if set(inner) != {"anyOf"}:
        return [inner]
    return [choice for choice in inner["anyOf"] if choice != {"type": "null"}]
