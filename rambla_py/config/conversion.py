"""Conversion of raw nodes to declared types, field by field, with a problem for each mismatch."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Iterable
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from rambla_py._internal.endpoints import is_open_address
from rambla_py._internal.redaction import MASK, looks_secret
from rambla_py.config.describe import choices, type_in_words, value_in_words
from rambla_py.config.guesses import Elsewhere, nowhere
from rambla_py.config.problems import ProblemList, joined
from rambla_py.config.raw_tree import Node, plain
from rambla_py.config.struct_fields import Field, bare, fields_of
from rambla_py.errors import nearest
from rambla_py.handler import Secret

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
    """Placeholder for a value that was refused; the problem has been recorded."""

    def __repr__(self) -> str:
        return "BAD"


BAD: Final = _Bad()
_SWITCHES = {"on": True, "yes": True, "off": False, "no": False}


def dec_hook(declared: Any, value: Any) -> Any:
    """Convert types that msgspec does not know: a string to a ``Secret``; instances are kept as they are."""
    if declared is Secret and isinstance(value, str):
        return Secret(value)
    if isinstance(declared, type) and isinstance(value, declared):
        return value
    raise ValueError(f"expected a {getattr(declared, '__name__', declared)}")


def holds_secret(declared: Any) -> bool:
    """Return whether a type is, or may be, a ``Secret``."""
    return declared is Secret or any(holds_secret(part) for part in get_args(declared))


def is_broken(node: Node) -> bool:
    """Return whether something in this tree has been reported already."""
    if isinstance(node.value, dict):
        return node.failed or any(map(is_broken, node.value.values()))
    if isinstance(node.value, list):
        return node.failed or any(map(is_broken, node.value))
    return node.failed


def convert(node: Node, declared: Any, path: str, problems: ProblemList) -> Any:
    """Return the value of a node as the declared type, or ``BAD`` with a problem recorded."""
    if node.failed:
        return BAD
    options = _alternatives(declared)
    if isinstance(node.value, dict):
        struct = _only_struct(options)
        if struct is not None:
            return convert_struct(node, struct, path, problems)
        inner = _item_type(options, dict)
        if inner is not None:
            return _mapping(node, inner, declared, path, problems)
    elif isinstance(node.value, list):
        inner = _item_type(options, list)
        if inner is not None:
            return _list(node, inner, declared, path, problems)
    return _leaf(node, declared, path, problems)


def convert_struct(
    node: Node,
    struct: type[msgspec.Struct],
    path: str,
    problems: ProblemList,
    *,
    elsewhere: Elsewhere = nowhere,
) -> Any:
    """Return an instance of a struct made from a table, or ``BAD``; unknown and missing keys are problems."""
    fields = fields_of(struct)
    values = convert_fields(node, fields, path, problems, elsewhere=elsewhere)
    for field in fields:
        if field.required and field.key not in node.value:
            missing = joined(path, field.key)
            problems.missing(missing, expected=type_in_words(field.type), file=node.file)
            values[field.name] = BAD
    if len(values) < len(node.value) or BAD in values.values():
        return BAD
    try:
        return struct(**values)
    except (ValueError, TypeError) as error:
        problems.add(path, expected="compatible values", got=str(error), file=node.file)
        return BAD


def convert_fields(
    node: Node,
    fields: Iterable[Field],
    path: str,
    problems: ProblemList,
    *,
    beside: Iterable[str] = (),
    elsewhere: Elsewhere = nowhere,
) -> dict[str, Any]:
    """Return the values of a table's keys by field name; ``BAD`` for a value that was refused.

    ``beside`` are keys that the caller reads itself; any other unknown key is a problem, with the hint of
    ``elsewhere`` if it belongs to another table.
    """
    by_key = {field.key: field for field in fields}
    values: dict[str, Any] = {}
    for key, item in node.value.items():
        if key in by_key:
            values[by_key[key].name] = convert(item, by_key[key].type, joined(path, key), problems)
        elif key not in beside:
            known = [*beside, *by_key]
            problems.unknown(
                joined(path, key), known, what="a known key", node=item, name=key, hint=elsewhere(key)
            )
    return values


def convert_table(node: Node, path: str, problems: ProblemList, what: str = "a table") -> Node | None:
    """Return the node if it is a table, else None with a problem recorded."""
    if node.is_table:
        return node
    if not node.failed:
        problems.add(path, expected=what, got=value_in_words(plain(node)), file=node.file)
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


def _mapping(node: Node, inner: Any, declared: Any, path: str, problems: ProblemList) -> Any:
    values = {key: convert(item, inner, joined(path, key), problems) for key, item in node.value.items()}
    return BAD if BAD in values.values() else _constrained(values, node, declared, path, problems)


def _list(node: Node, inner: Any, declared: Any, path: str, problems: ProblemList) -> Any:
    values = [convert(item, inner, f"{path}[{at}]", problems) for at, item in enumerate(node.value)]
    return BAD if BAD in values else _constrained(values, node, declared, path, problems)


def _constrained(values: Any, node: Node, declared: Any, path: str, problems: ProblemList) -> Any:
    try:
        return msgspec.convert(values, declared, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        _misfit(node, declared, path, problems, error)
        return BAD


def _leaf(node: Node, declared: Any, path: str, problems: ProblemList) -> Any:
    if is_broken(node):
        return BAD
    value = plain(node)
    if isinstance(value, str) and holds_secret(declared):
        setting = path.rpartition(".")[2].partition("[")[0]
        if not is_open_address(setting, value):
            problems.secret(value)
    try:
        return msgspec.convert(value, declared, strict=not node.lenient, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        if node.lenient:
            typed = _typed(value, declared)
            if typed is not BAD:
                return typed
        _misfit(node, declared, path, problems, error)
        return BAD


def _typed(text: Any, declared: Any) -> Any:
    """Convert a string from outside the file as a switch (on, off, yes, no), as JSON, or as TOML."""
    if not isinstance(text, str):
        return BAD
    for read in (_switch, msgspec.json.decode, _toml):
        try:
            return msgspec.convert(read(text), declared, dec_hook=dec_hook)
        except (msgspec.MsgspecError, ValueError):
            continue
    return BAD


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCHES:
        raise ValueError(text)
    return _SWITCHES[text.lower()]


def _toml(text: str) -> Any:
    """Return one TOML value: 1_000, 0xff, inf."""
    if "\n" in text:
        raise ValueError("more than a value")
    return tomllib.loads(f"value = {text}")["value"]


def _misfit(node: Node, declared: Any, path: str, problems: ProblemList, error: Exception) -> None:
    value = plain(node)
    hidden = node.hidden or holds_secret(declared) or looks_secret(path.rpartition(".")[2])
    got = MASK if hidden and value is not None else value_in_words(value)
    problems.add(
        path, expected=type_in_words(declared), got=got, file=node.file, hint=_hint(node, declared, error)
    )


def _hint(node: Node, declared: Any, error: Exception) -> str | None:
    if isinstance(node.value, str) and not node.lenient and _fits_unquoted(node.value, declared):
        return (
            "write it without the quotes"
            if not node.final
            else "only a value that is all ${...} is converted"
        )
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
