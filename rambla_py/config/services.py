"""Check of one service's table: its handler, connections and channels."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from rambla_py.config.conversion import (
    BAD,
    convert,
    convert_fields,
    convert_struct,
    convert_table,
    is_broken,
)
from rambla_py.config.describe import type_in_words
from rambla_py.config.elsewhere import elsewhere
from rambla_py.config.guesses import Elsewhere
from rambla_py.config.layers import Known, Layer, merged, read_layer
from rambla_py.config.problems import ProblemList, joined
from rambla_py.config.rates import rate_per_s
from rambla_py.config.raw_tree import Node, plain, wrap
from rambla_py.config.reserved import never_attempted, serializer_error
from rambla_py.config.schema import ChannelConfig, ChannelSettings, ServiceConfig
from rambla_py.config.secrecy import secrets_in
from rambla_py.config.struct_fields import fields_of, is_struct
from rambla_py.handler import Handler
from rambla_py.policy import Policy
from rambla_py.serialization.cloudevents import STRUCTURED
from rambla_py.serialization.header_values import header_value
from rambla_py.serialization.schema import SchemaError, validator_of

__all__ = ["Service", "read_service"]

FALLBACK_AFTER_S = 300.0
"""``expires_s`` of a channel with a fallback that sets none."""

KEYS = ("handler", "options", "connections", "channels")


class Service(msgspec.Struct, frozen=True):
    """What is known about a service before its table is checked.

    ``handler`` is None if it was not found, which has been reported; the rest of the table is still checked.
    ``defaults`` are the options of ``[rambla]``.
    """

    name: str
    handler: type[Handler] | None
    handler_name: str
    known: Known
    defaults: Layer


class _ChannelTable(msgspec.Struct, frozen=True):
    """The table of one channel."""

    service: Service
    channel: str
    path: str
    node: Node


def read_service(node: Node, service: Service, problems: ProblemList) -> ServiceConfig | None:
    """Check a service's table; returns None, with problems recorded, if nothing can be built."""
    base = joined("", service.name)
    hints = _hints(service)
    for key, item in node.value.items():
        if key not in KEYS:
            path, hint = joined(base, key), hints(key)
            problems.unknown(path, KEYS, what="a known key", node=item, name=key, hint=hint)
    tables = {key: _table_of_tables(node, key, service, problems) for key in ("connections", "channels")}
    general = _options(node, base, service, problems)
    connections = {
        name: _connection(item, joined(joined(base, "connections"), name), service, problems)
        for name, item in tables["connections"].items()
    }
    special = {
        name: _options(item, joined(joined(base, "connections"), name), service, problems)
        for name, item in tables["connections"].items()
    }
    if not connections and not tables["connections"]:
        _add_empty_connection(connections, service)
    _check_channels(node, service, problems)
    channels = {}
    for name, item in tables["channels"].items():
        if "." in name:
            path = joined(joined(base, "channels"), name)
            hint = "a dot separates service and channel in the name of one target"
            problems.add(path, expected="a name without a dot", got=repr(name), file=item.file, hint=hint)
        place = _ChannelTable(service, name, joined(joined(base, "channels"), name), item)
        channel = _channel(place, connections, [service.defaults, general], special, problems)
        if channel is not None:
            channels[name] = channel
    if service.handler is None:
        return None
    return ServiceConfig(
        name=service.name,
        handler=service.handler,
        handler_name=service.handler_name,
        connections=connections,
        channels=channels,
    )


def _check_channels(node: Node, service: Service, problems: ProblemList) -> None:
    """Note a service that has no channels, unless it or its channels are no tables, which has been noted."""
    given = node.get("channels")
    if service.handler is not None and (given is None or given.value == {}):
        path = joined(joined("", service.name), "channels")
        hint = f"add [{joined(path, 'NAME')}]"
        problems.missing(path, expected="at least one channel", file=(given or node).file, hint=hint)


def _hints(service: Service, *, channel: str | None = None) -> Elsewhere:
    """Return the hints for keys of a service's table, or of the table of a channel at that path."""
    base = joined("", service.name)
    return elsewhere(
        service.known,
        options=joined(channel or base, "options"),
        channel=None if channel else joined(joined(base, "channels"), "NAME"),
        connection=joined(joined(base, "connections"), "NAME"),
    )


def _table_of_tables(node: Node, key: str, service: Service, problems: ProblemList) -> dict[str, Node]:
    path = joined(joined("", service.name), key)
    table = convert_table(node.get(key) or wrap({}), path, problems)
    return {
        name: item
        for name, item in (table.value.items() if table is not None else ())
        if convert_table(item, joined(path, name), problems, "a table of its own") is not None
    }


def _options(node: Node, path: str, service: Service, problems: ProblemList) -> Layer:
    table = node.get("options")
    if table is None or convert_table(table, joined(path, "options"), problems) is None:
        return Layer()
    layer = read_layer(table, joined(path, "options"), service.known, problems)
    problems.secret(*secrets_in(layer.values, by_name=False), *secrets_in(layer.headers))
    return layer


def _connection(node: Node, path: str, service: Service, problems: ProblemList) -> Any:
    shape = service.handler.Connection if service.handler is not None else dict
    table = node.without("options")
    problems.secret(*secrets_in(plain(table)))
    if shape in (dict, None, Any):
        return BAD if is_broken(table) else plain(table)
    if is_struct(shape):
        channel = joined(joined(joined("", service.name), "channels"), "NAME")
        hints = elsewhere(service.known, options=joined(path, "options"), channel=channel)
        settings = convert_struct(table, shape, path, problems, elsewhere=hints)
    else:
        settings = convert(table, shape, path, problems)
    problems.secret(*secrets_in(settings))
    return settings


def _add_empty_connection(connections: dict[str, Any], service: Service) -> None:
    """Give a service that needs no parameters the connection ``default``."""
    shape = service.handler.Connection if service.handler is not None else dict
    if shape in (dict, None, Any):
        connections["default"] = {}
    elif is_struct(shape) and not any(field.required for field in fields_of(shape)):
        with suppress(ValueError, TypeError):  # each field may be optional, but not all of them together
            connections["default"] = shape()


def _channel(
    place: _ChannelTable,
    connections: dict[str, Any],
    below: list[Layer],
    special: dict[str, Layer],
    problems: ProblemList,
) -> ChannelConfig | None:
    fields = fields_of(ChannelSettings)
    hints = _hints(place.service, channel=place.path)
    beside = ("connection", "options")
    settings = convert_fields(place.node, fields, place.path, problems, beside=beside, elsewhere=hints)
    _check_envelope(place, settings, problems)
    rate = _refuse_settings(place, settings, problems)
    validate = _validator(place, settings, problems)
    connection = _connection_name(place, connections, problems)
    own = _options(place.node, place.path, place.service, problems)
    layer = merged([*below, special.get(connection or "", Layer()), own])
    gives_up = bool(settings.get("fallback")) and settings.get("durable") is not True
    policy = _policy(place, layer, problems, gives_up=gives_up)
    options = _handler_options(place, layer, problems)
    headers = _headers(place, layer, problems)
    refused = any(value is BAD for value in (rate, validate, options, headers, *settings.values()))
    if refused or policy is None or connection is None or place.service.handler is None:
        return None
    reason = serializer_error(policy, place.service.handler, options)
    if reason is not None:
        path = joined(joined(place.path, "options"), "serializer")
        problems.add(path, expected=repr(STRUCTURED), got=reason, file=place.node.file)
        return None
    return ChannelConfig(
        **settings,
        service=place.service.name,
        channel=place.channel,
        connection=connection,
        handler=place.service.handler,
        settings=connections[connection],
        options=options,
        policy=policy,
        headers=headers,
        rate_per_s=rate,
        validate=validate,
    )


def _refuse_settings(place: _ChannelTable, settings: dict[str, Any], problems: ProblemList) -> Any:
    """Return the rate limit, or None; reports settings that this version does not support."""

    def refuse(key: str, *, expected: str, got: str, hint: str | None = None) -> None:
        file = place.node.value[key].file
        problems.add(joined(place.path, key), expected=expected, got=got, file=file, hint=hint)

    if settings.get("durable") is True:
        overflow = settings.get("overflow")
        if overflow in ("drop_oldest", "drop_newest"):
            refuse("overflow", expected="'block' or 'raise' on a durable channel", got=repr(overflow))
            return BAD
    ready, most = settings.get("batch_ready"), settings.get("batch_size", ChannelSettings().batch_size)
    if isinstance(ready, int) and isinstance(most, int) and ready > most:
        refuse("batch_ready", expected=f"at most batch_size ({most})", got=repr(ready))
        return BAD
    rate = settings.get("rate_limit")
    if not isinstance(rate, str):
        return None
    try:
        return rate_per_s(rate)
    except ValueError:
        refuse("rate_limit", expected="a rate like '100/s', '5/min' or '1000/h'", got=repr(rate))
        return BAD


def _validator(place: _ChannelTable, settings: dict[str, Any], problems: ProblemList) -> Any:
    """Return the function that checks payloads by ``schema``, or None; note a schema that cannot be used."""
    reference = settings.get("schema")
    if not isinstance(reference, str):
        return None
    node = place.node.value["schema"]
    folder = Path(node.file).parent if node.file else Path()
    try:
        return validator_of(reference, folder, f"{place.service.name}.{place.channel}")
    except SchemaError as error:
        problems.add(joined(place.path, "schema"), expected=error.expected, got=error.got, file=node.file)
        return BAD


def _check_envelope(place: _ChannelTable, settings: dict[str, Any], problems: ProblemList) -> None:
    """Report names in ``envelope`` that are neither ``key``, ``headers`` nor a routing option."""
    listed = settings.get("envelope")
    if listed is None or listed is BAD or place.service.handler is None:
        return
    routed = [name for name, field in place.service.known.fields.items() if field.routing]
    allowed = ["key", "headers", *routed]
    path, node = joined(place.path, "envelope"), place.node.value["envelope"]
    for at, name in enumerate(listed):
        if name not in allowed:
            problems.unknown(
                f"{path}[{at}]", allowed, what="an option that an envelope may set", node=node, name=name
            )


def _connection_name(place: _ChannelTable, connections: dict[str, Any], problems: ProblemList) -> str | None:
    node, path = place.node.get("connection"), joined(place.path, "connection")
    table = joined(joined("", place.service.name), "connections")
    if node is None:
        if len(connections) == 1:
            return next(iter(connections))
        expected = f"the name of one of [{table}]"
        hint = f"there are {', '.join(connections)}" if connections else f"add [{joined(table, 'default')}]"
        problems.missing(path, expected=expected, file=place.node.file, hint=hint)
        return None
    name = convert(node, str, path, problems)
    if name is BAD or name in connections:
        return None if name is BAD else str(name)
    if not problems.incomplete:
        problems.unknown(path, connections, what=f"the name of one of [{table}]", node=node, name=name)
    return None


def _policy(place: _ChannelTable, layer: Layer, problems: ProblemList, *, gives_up: bool) -> Policy | None:
    values = {name: value for name, value in layer.values.items() if name in Policy.__struct_fields__}
    if gives_up and "expires_s" not in values:
        # While the primary is unreachable, messages must reach the fallback at some point.
        values |= {"expires_s": FALLBACK_AFTER_S, "expires_when_due": True}
    policy = Policy(**values)
    if never_attempted(policy):
        path = joined(joined(place.path, "options"), "delay_s")
        expected = f"less than expires_s ({policy.expires_s:g})"
        problems.add(path, expected=expected, got=f"{policy.delay_s:g}", file=place.node.file)
        return None
    return None if layer.failed & set(Policy.__struct_fields__) else policy


def _headers(place: _ChannelTable, layer: Layer, problems: ProblemList) -> Any:
    """Return a channel's headers as its handler holds them, or None; note what no header can hold."""
    handler = place.service.handler
    kinds = handler.header_types if handler is not None else ()
    found: dict[str, Any] = {}
    for name, value in layer.headers.items():
        try:
            found[name] = header_value(value, kinds)
        except ValueError as error:
            path = joined(joined(joined(place.path, "options"), "headers"), name)
            problems.add(path, expected="a value that JSON can hold", got=str(error), file=place.node.file)
            return BAD
    if type(None) not in kinds:
        found = {name: value for name, value in found.items() if value is not None}
    return found or None


def _handler_options(place: _ChannelTable, layer: Layer, problems: ProblemList) -> Any:
    handler, known = place.service.handler, place.service.known
    if handler is None or layer.failed - set(Policy.__struct_fields__):
        _report_missing(place, layer, problems)
        return BAD
    if handler.Options is None:
        return None
    if known.anything:
        return {name: value for name, value in layer.values.items() if name not in Policy.__struct_fields__}
    if _report_missing(place, layer, problems):
        return BAD
    values = {
        field.attribute: layer.values[name] for name, field in known.fields.items() if name in layer.values
    }
    try:
        return handler.Options(**values)
    except (ValueError, TypeError) as error:
        path = joined(place.path, "options")
        problems.add(path, expected="compatible options", got=str(error), file=place.node.file)
        return BAD


def _report_missing(place: _ChannelTable, layer: Layer, problems: ProblemList) -> bool:
    missing = False
    for name, field in place.service.known.fields.items():
        if field.required and name not in layer.values and name not in layer.failed:
            missing = True
            path = joined(joined(place.path, "options"), name)
            expected = f"{type_in_words(field.type)} (handler {place.service.handler_name!r} requires it)"
            problems.missing(path, expected=expected, file=place.node.file)
    return missing
