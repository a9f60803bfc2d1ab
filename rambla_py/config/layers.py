"""Option tables of a configuration, merged level by level into a channel's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rambla_py.config.conversion import BAD, convert, convert_fields, convert_table, is_broken
from rambla_py.config.describe import type_in_words, value_in_words
from rambla_py.config.options import OptionField, reserved
from rambla_py.config.problems import ProblemList, joined
from rambla_py.config.raw_tree import Node, plain
from rambla_py.config.reserved import PER_MESSAGE, CallbacksTable, as_policy_value, callback
from rambla_py.config.schema import ChannelSettings
from rambla_py.config.struct_fields import fields_of
from rambla_py.policy import Callbacks

__all__ = ["Known", "Layer", "merged", "read_layer"]


class Known(msgspec.Struct, frozen=True):
    """The options that a handler declares; with ``anything`` it accepts every name.

    ``settings`` are the keys of its connections' tables.
    """

    fields: Mapping[str, OptionField]
    anything: bool = False
    settings: frozenset[str] = frozenset()


class Layer(msgspec.Struct):
    """One table of options, checked: values by name, and the names whose value was refused."""

    values: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    failed: set[str] = set()


def merged(layers: list[Layer]) -> Layer:
    """Merge each layer over those before it; headers merge key by key.

    >>> merged([Layer({"retries": 1}, {"a": "1"}), Layer({"retries": 2}, {"b": "2"})]).headers
    {'a': '1', 'b': '2'}
    """
    result = Layer()
    for layer in layers:
        result.values.update(layer.values)
        result.headers.update(layer.headers)
        result.failed |= layer.failed
    return result


def read_layer(
    node: Node | None, path: str, known: Known, problems: ProblemList, *, skip_unknown: bool = False
) -> Layer:
    """Check one table of options; with ``skip_unknown``, undeclared names are skipped without a problem."""
    layer = Layer()
    if node is None or not node.is_table:
        return layer
    for name, item in node.value.items():
        value = _read(name, item, joined(path, name), known, problems, skip_unknown=skip_unknown)
        if value is BAD:
            layer.failed.add(name)
        elif name == "headers":
            layer.headers = value
        elif value is not None or name in known.fields or name in reserved():
            layer.values[name] = value
    return layer


def _read(
    name: str, item: Node, path: str, known: Known, problems: ProblemList, *, skip_unknown: bool
) -> Any:
    if name in PER_MESSAGE:
        hint = f"give it with each message: publish(..., {name}=...)"
        problems.add(
            path, expected="an option that a configuration may set", got=repr(name), file=item.file, hint=hint
        )
        return BAD
    if name == "callbacks":
        return _callbacks(item, path, problems)
    if name in reserved():
        return _reserved(name, item, path, problems)
    if name in known.fields:
        return convert(item, known.fields[name].type, path, problems)
    if known.anything:
        return BAD if is_broken(item) else plain(item)
    if not skip_unknown:
        _undeclared(name, item, path, known, problems)
        return BAD
    return None


def _reserved(name: str, item: Node, path: str, problems: ProblemList) -> Any:
    declared = reserved()[name].type
    value = convert(item, declared, path, problems)
    if value is BAD:
        return BAD
    try:
        return as_policy_value(name, value)
    except ValueError as error:
        expected = reserved()[name].description if name == "serializer" else type_in_words(declared)
        problems.add(path, expected=expected, got=value_in_words(value), file=item.file, hint=str(error))
        return BAD


def _callbacks(item: Node, path: str, problems: ProblemList) -> Any:
    table = convert_table(item, path, problems)
    if table is None:
        return BAD
    hooks = convert_fields(table, fields_of(CallbacksTable), path, problems)
    for hook, given in hooks.items():
        if given is not BAD:
            hooks[hook] = _callback(given, table.value[hook], joined(path, hook), problems)
    return BAD if len(hooks) < len(table.value) or BAD in hooks.values() else Callbacks(**hooks)


def _callback(given: Any, node: Node, path: str, problems: ProblemList) -> Any:
    try:
        return callback(given)
    except ValueError as error:
        expected, got = "a function, as 'module:function'", value_in_words(given)
        problems.add(path, expected=expected, got=got, file=node.file, hint=str(error))
        return BAD


def _undeclared(name: str, item: Node, path: str, known: Known, problems: ProblemList) -> None:
    if name in ChannelSettings.__struct_fields__ or name == "connection":
        hint = "it is a setting of the channel: write it beside options, not in it"
        problems.add(path, expected="an option", got=repr(name), file=item.file, hint=hint)
        return
    if name in known.settings:
        hint = "it is a setting of the connection: write it in the connection's table"
        problems.add(path, expected="an option", got=repr(name), file=item.file, hint=hint)
        return
    names = [*known.fields, *(option for option in reserved() if option not in PER_MESSAGE)]
    problems.unknown(path, names, what="an option that the handler declares", node=item, name=name)
