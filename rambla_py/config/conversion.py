"""This module converts raw nodes to declared types, field by field, and notes every misfit."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from rambla_py.config.findings import Findings, joined
from rambla_py.config.node import Node, plain
from rambla_py.config.shapes import Field, bare, fields_of
from rambla_py.config.words import choices, type_in_words, value_in_words
from rambla_py.errors import nearest
from rambla_py.handler import Secret
from rambla_py.redaction import MASK, looks_secret

__all__ = [
    "BAD",
    "convert",
    "convert_fields",
    "convert_struct",
    "convert_table",
    "dec_hook",
    "holds_secret",
    "is_broken",
]


class _Bad:
    """Stands for a value that was refused; why has been noted."""

    def __repr__(self) -> str:
        return "BAD"


BAD: Final = _Bad()
_SWITCHES = {"on": True, "yes": True, "off": False, "no": False}


def dec_hook(declared: Any, value: Any) -> Any:
    """Convert what msgspec does not know: a ``Secret`` from a text; an instance passes as it is."""
    if declared is Secret and isinstance(value, str):
        return Secret(value)
    if isinstance(declared, type) and isinstance(value, declared):
        return value
    raise ValueError(f"expected a {getattr(declared, '__name__', declared)}")


def holds_secret(declared: Any) -> bool:
    """Say whether a type is, or may be, a ``Secret``."""
    return declared is Secret or any(holds_secret(part) for part in get_args(declared))


def is_broken(node: Node) -> bool:
    """Say whether something in this tree has been reported already."""
    if isinstance(node.value, dict):
        return node.failed or any(map(is_broken, node.value.values()))
    if isinstance(node.value, list):
        return node.failed or any(map(is_broken, node.value))
    return node.failed


def convert(node: Node, declared: Any, path: str, findings: Findings) -> Any:
    """Return the value of a node as the declared type, or ``BAD`` with the reason among the problems."""
    if node.failed:
        return BAD
    options = _alternatives(declared)
    if isinstance(node.value, dict):
        struct = _only_struct(options)
        if struct is not None:
            return convert_struct(node, struct, path, findings)
        inner = _item_type(options, dict)
        if inner is not None:
            return _mapping(node, inner, declared, path, findings)
    elif isinstance(node.value, list):
        inner = _item_type(options, list)
        if inner is not None:
            return _list(node, inner, declared, path, findings)
    return _leaf(node, declared, path, findings)


def convert_struct(node: Node, struct: type[msgspec.Struct], path: str, findings: Findings) -> Any:
    """Return an instance of a struct made from a table, or ``BAD``; unknown and missing keys are problems."""
    fields = fields_of(struct)
    values = convert_fields(node, fields, path, findings)
    for field in fields:
        if field.required and field.key not in node.value:
            missing = joined(path, field.key)
            findings.missing(missing, expected=type_in_words(field.type), file=node.file)
            values[field.name] = BAD
    if len(values) < len(node.value) or BAD in values.values():
        return BAD
    try:
        return struct(**values)
    except (ValueError, TypeError) as error:
        findings.problem(path, expected="values that fit together", got=str(error), file=node.file)
        return BAD


def convert_fields(
    node: Node, fields: Iterable[Field], path: str, findings: Findings, *, beside: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the values of a table's keys by field name, ``BAD`` where one was refused.

    ``beside`` are keys that the caller reads; any other key that no field has is a problem.
    """
    by_key = {field.key: field for field in fields}
    values: dict[str, Any] = {}
    for key, item in node.value.items():
        if key in by_key:
            values[by_key[key].name] = convert(item, by_key[key].type, joined(path, key), findings)
        elif key not in beside:
            findings.unknown(joined(path, key), [*beside, *by_key], what="a known key", node=item, name=key)
    return values


def convert_table(node: Node, path: str, findings: Findings, what: str = "a table") -> Node | None:
    """Return the node when it is a table, or None with a problem."""
    if node.is_table:
        return node
    if not node.failed:
        findings.problem(path, expected=what, got=value_in_words(plain(node)), file=node.file)
    return None


def _alternatives(declared: Any) -> list[Any]:
    declared = bare(declared)
    if get_origin(declared) in (Union, types.UnionType):
        return [part for option in get_args(declared) for part in _alternatives(option)]
    return [declared]


def _only_struct(options: list[Any]) -> type[msgspec.Struct] | None:
    structs = [
        option for option in options if isinstance(option, type) and issubclass(option, msgspec.Struct)
    ]
    if len(structs) == 1 and structs[0].__struct_config__.tag is None:
        return structs[0]
    return None


def _item_type(options: list[Any], container: type) -> Any:
    for option in options:
        if get_origin(option) is container:
            return get_args(option)[-1]
    return None


def _mapping(node: Node, inner: Any, declared: Any, path: str, findings: Findings) -> Any:
    values = {key: convert(item, inner, joined(path, key), findings) for key, item in node.value.items()}
    return BAD if BAD in values.values() else _constrained(values, node, declared, path, findings)


def _list(node: Node, inner: Any, declared: Any, path: str, findings: Findings) -> Any:
    values = [convert(item, inner, f"{path}[{at}]", findings) for at, item in enumerate(node.value)]
    return BAD if BAD in values else _constrained(values, node, declared, path, findings)


def _constrained(values: Any, node: Node, declared: Any, path: str, findings: Findings) -> Any:
    try:
        return msgspec.convert(values, declared, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        _misfit(node, declared, path, findings, error)
        return BAD


def _leaf(node: Node, declared: Any, path: str, findings: Findings) -> Any:
    if is_broken(node):
        return BAD
    value = plain(node)
    if isinstance(value, str) and holds_secret(declared):
        findings.secret(value)
    try:
        return msgspec.convert(value, declared, strict=not node.lenient, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        if node.lenient:
            typed = _typed(value, declared)
            if typed is not BAD:
                return typed
        _misfit(node, declared, path, findings, error)
        return BAD


def _typed(text: Any, declared: Any) -> Any:
    """Read a text from outside the file the other ways there are: as JSON, or as a switch."""
    if not isinstance(text, str):
        return BAD
    try:
        value = _SWITCHES[text.lower()] if text.lower() in _SWITCHES else msgspec.json.decode(text.encode())
        return msgspec.convert(value, declared, dec_hook=dec_hook)
    except (msgspec.MsgspecError, ValueError):
        return BAD


def _misfit(node: Node, declared: Any, path: str, findings: Findings, error: Exception) -> None:
    value = plain(node)
    hidden = node.hidden or holds_secret(declared) or looks_secret(path.rpartition(".")[2])
    got = MASK if hidden and value is not None else value_in_words(value)
    findings.problem(
        path, expected=type_in_words(declared), got=got, file=node.file, hint=_hint(node, declared, error)
    )


def _hint(node: Node, declared: Any, error: Exception) -> str | None:
    if isinstance(node.value, str) and not node.lenient and _fits_unquoted(node.value, declared):
        return "write it without the quotes"
    text = str(error)
    if " - at " in text:
        return text
    close = nearest(node.value, choices(declared)) if isinstance(node.value, str) else None
    return f"did you mean {close!r}?" if close else None


def _fits_unquoted(text: str, declared: Any) -> bool:
    try:
        msgspec.convert(text, declared, strict=False, dec_hook=dec_hook)
    except msgspec.ValidationError:
        return False
    return True
