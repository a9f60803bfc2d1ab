"""This module checks the table of one service: its handler, connections and channels."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec

from rambla_py.cloudevent import STRUCTURED
from rambla_py.config.conversion import (
    BAD,
    convert,
    convert_fields,
    convert_struct,
    convert_table,
    is_broken,
)
from rambla_py.config.findings import Findings, joined
from rambla_py.config.layers import Known, Layer, merged, read_layer
from rambla_py.config.node import Node, plain, wrap
from rambla_py.config.rates import rate_per_s
from rambla_py.config.reserved import late, refusal
from rambla_py.config.schema import ChannelConfig, ChannelSettings, ServiceConfig
from rambla_py.config.secrecy import secrets_in
from rambla_py.config.shapes import fields_of, is_struct
from rambla_py.config.words import type_in_words
from rambla_py.handler import Handler
from rambla_py.policy import Policy

__all__ = ["Service", "read_service"]

KEYS = ("handler", "options", "connections", "channels")


class Service(msgspec.Struct, frozen=True):
    """What is known of a service before its table is read.

    ``handler`` is None where it could not be found (which is noted): the rest of the table is checked all the
    same. ``defaults`` are the options of ``[rambla]``, ``envelope`` its default for channels.
    """

    name: str
    handler: type[Handler] | None
    handler_name: str
    known: Known
    defaults: Layer
    envelope: bool | None = None


class _Place(msgspec.Struct, frozen=True):
    """The channel that is being read."""

    service: Service
    channel: str
    path: str
    node: Node


def read_service(node: Node, service: Service, findings: Findings) -> ServiceConfig | None:
    """Check a service's table; None when nothing can be built, which is noted."""
    base = joined("", service.name)
    for key, item in node.value.items():
        if key not in KEYS:
            findings.unknown(joined(base, key), KEYS, what="a known key", node=item, name=key)
    tables = {key: _table_of_tables(node, key, service, findings) for key in ("connections", "channels")}
    general = _options(node, base, service, findings)
    connections = {
        name: _connection(item, joined(joined(base, "connections"), name), service, findings)
        for name, item in tables["connections"].items()
    }
    special = {
        name: _options(item, joined(joined(base, "connections"), name), service, findings)
        for name, item in tables["connections"].items()
    }
    if not connections and not tables["connections"]:
        _add_empty_connection(connections, service)
    channels = {}
    for name, item in tables["channels"].items():
        place = _Place(service, name, joined(joined(base, "channels"), name), item)
        channel = _channel(place, connections, [service.defaults, general], special, findings)
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


def _table_of_tables(node: Node, key: str, service: Service, findings: Findings) -> dict[str, Node]:
    path = joined(joined("", service.name), key)
    table = convert_table(node.get(key) or wrap({}), path, findings)
    return {
        name: item
        for name, item in (table.value.items() if table is not None else ())
        if convert_table(item, joined(path, name), findings, "a table of its own") is not None
    }


def _options(node: Node, path: str, service: Service, findings: Findings) -> Layer:
    table = node.get("options")
    if table is None or convert_table(table, joined(path, "options"), findings) is None:
        return Layer()
    layer = read_layer(table, joined(path, "options"), service.known, findings)
    findings.secret(*secrets_in(layer.values, by_name=False), *secrets_in(layer.headers))
    return layer


def _connection(node: Node, path: str, service: Service, findings: Findings) -> Any:
    shape = service.handler.Connection if service.handler is not None else dict
    table = node.without("options")
    findings.secret(*secrets_in(plain(table)))
    if shape in (dict, None, Any):
        return BAD if is_broken(table) else plain(table)
    if is_struct(shape):
        settings = convert_struct(table, shape, path, findings)
    else:
        settings = convert(table, shape, path, findings)
    findings.secret(*secrets_in(settings))
    return settings


def _add_empty_connection(connections: dict[str, Any], service: Service) -> None:
    """Give a service that needs no parameters the connection ``default``."""
    shape = service.handler.Connection if service.handler is not None else dict
    if shape in (dict, None, Any):
        connections["default"] = {}
    elif is_struct(shape) and not any(field.required for field in fields_of(shape)):
        with suppress(ValueError, TypeError):  # its fields may be optional one by one, and not all together
            connections["default"] = shape()


def _channel(
    place: _Place,
    connections: dict[str, Any],
    below: list[Layer],
    special: dict[str, Layer],
    findings: Findings,
) -> ChannelConfig | None:
    fields = fields_of(ChannelSettings)
    settings = convert_fields(place.node, fields, place.path, findings, beside=("connection", "options"))
    if place.service.envelope is not None:
        settings.setdefault("envelope", place.service.envelope)
    rate = _refuse_settings(place, settings, findings)
    connection = _connection_name(place, connections, findings)
    own = _options(place.node, place.path, place.service, findings)
    layer = merged([*below, special.get(connection or "", Layer()), own])
    policy, options = _policy(place, layer, findings), _handler_options(place, layer, findings)
    refused = any(value is BAD for value in (rate, options, *settings.values()))
    if refused or policy is None or connection is None or place.service.handler is None:
        return None
    reason = refusal(policy, place.service.handler, options)
    if reason is not None:
        path = joined(joined(place.path, "options"), "serializer")
        findings.problem(path, expected=repr(STRUCTURED), got=reason, file=place.node.file)
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
        headers=layer.headers or None,
        rate_per_s=rate,
    )


def _refuse_settings(place: _Place, settings: dict[str, Any], findings: Findings) -> Any:
    """Return the rate limit, or None; note what this version refuses."""

    def refuse(key: str, *, expected: str, got: str, hint: str | None = None) -> None:
        file = place.node.value[key].file
        findings.problem(joined(place.path, key), expected=expected, got=got, file=file, hint=hint)

    if settings.get("durable") is True:
        refuse("durable", expected="false", got="true", hint="the outbox is not part of this version")
        overflow = settings.get("overflow")
        if overflow in ("drop_oldest", "drop_newest"):
            refuse("overflow", expected="'block' or 'raise' on a durable channel", got=repr(overflow))
    rate = settings.get("rate_limit")
    if not isinstance(rate, str):
        return None
    try:
        return rate_per_s(rate)
    except ValueError:
        refuse("rate_limit", expected="a rate like '100/s', '5/min' or '1000/h'", got=repr(rate))
        return BAD


def _connection_name(place: _Place, connections: dict[str, Any], findings: Findings) -> str | None:
    node, path = place.node.get("connection"), joined(place.path, "connection")
    table = joined(joined("", place.service.name), "connections")
    if node is None:
        if len(connections) == 1:
            return next(iter(connections))
        expected = f"the name of one of [{table}]"
        hint = f"there are {', '.join(connections)}" if connections else f"add [{joined(table, 'default')}]"
        findings.missing(path, expected=expected, file=place.node.file, hint=hint)
        return None
    name = convert(node, str, path, findings)
    if name is BAD or name in connections:
        return None if name is BAD else str(name)
    if not findings.incomplete:
        findings.unknown(path, connections, what=f"the name of one of [{table}]", node=node, name=name)
    return None


def _policy(place: _Place, layer: Layer, findings: Findings) -> Policy | None:
    values = {name: value for name, value in layer.values.items() if name in Policy.__struct_fields__}
    policy = Policy(**values)
    if policy.expires_s is not None and policy.delay_s and policy.delay_s >= policy.expires_s:
        path = joined(joined(place.path, "options"), "delay_s")
        findings.problem(path, expected="less than expires_s", got=late(policy), file=place.node.file)
        return None
    return None if layer.failed & set(Policy.__struct_fields__) else policy


def _handler_options(place: _Place, layer: Layer, findings: Findings) -> Any:
    handler, known = place.service.handler, place.service.known
    if handler is None or layer.failed - set(Policy.__struct_fields__):
        _note_missing(place, layer, findings)
        return BAD
    if handler.Options is None:
        return None
    if known.anything:
        return {name: value for name, value in layer.values.items() if name not in Policy.__struct_fields__}
    if _note_missing(place, layer, findings):
        return BAD
    values = {
        field.attribute: layer.values[name] for name, field in known.fields.items() if name in layer.values
    }
    try:
        return handler.Options(**values)
    except (ValueError, TypeError) as error:
        path = joined(place.path, "options")
        findings.problem(path, expected="options that fit together", got=str(error), file=place.node.file)
        return BAD


def _note_missing(place: _Place, layer: Layer, findings: Findings) -> bool:
    missing = False
    for name, field in place.service.known.fields.items():
        if field.required and name not in layer.values and name not in layer.failed:
            missing = True
            path = joined(joined(place.path, "options"), name)
            expected = f"{type_in_words(field.type)} (handler {place.service.handler_name!r} requires it)"
            findings.missing(path, expected=expected, file=place.node.file)
    return missing
