"""This module brings the environment into a raw tree: interpolation and ``RAMBLA__`` overrides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from rambla_py.config.findings import Findings, joined
from rambla_py.config.interpolation import InterpolationError, expand
from rambla_py.config.node import Node, wrap
from rambla_py.redaction import looks_secret

__all__ = ["interpolated", "overridden", "overrides"]

PREFIX = "RAMBLA__"


def interpolated(node: Node, path: str, environ: Mapping[str, str], findings: Findings) -> Node:
    """Return the tree with ``${...}`` replaced in its texts; what cannot be is noted and marked ``failed``.

    Paths of ``${file:...}`` are relative to the configuration file. Values that came from files, or from
    variables with a secret's name, are noted as secrets.
    """
    if node.final:
        return node
    if isinstance(node.value, dict):
        table = {
            key: interpolated(item, joined(path, key), environ, findings) for key, item in node.value.items()
        }
        return msgspec.structs.replace(node, value=table)
    if isinstance(node.value, list):
        items = [interpolated(item, f"{path}[{at}]", environ, findings) for at, item in enumerate(node.value)]
        return msgspec.structs.replace(node, value=items)
    if not isinstance(node.value, str) or "$" not in node.value:
        return node
    return _expanded(node, path, environ, findings)


def _expanded(node: Node, path: str, environ: Mapping[str, str], findings: Findings) -> Node:
    folder = Path(node.file).parent if node.file else Path()
    try:
        expansion = expand(node.value, environ, lambda name: (folder / name).read_bytes().decode("utf-8"))
    except InterpolationError as error:
        findings.problem(path, expected=error.expected, got=error.got, file=node.file, hint=error.hint)
        return msgspec.structs.replace(node, failed=True)
    hidden = [value for name, value in expansion.names if looks_secret(name)]
    hidden.extend(expansion.contents)
    findings.secret(*hidden)
    return msgspec.structs.replace(
        node, value=expansion.text, lenient=expansion.whole, final=True, hidden=bool(hidden)
    )


def overrides(environ: Mapping[str, str]) -> dict[tuple[str, ...], Node]:
    """Return what the environment sets, by path, as ``RAMBLA__AMQP__CONNECTIONS__LOCAL__URL`` gives it.

    >>> list(overrides({"RAMBLA__AMQP__CHANNELS__ORDERS__COUNT": "4", "HOME": "/"}))
    [('AMQP', 'CHANNELS', 'ORDERS', 'COUNT')]
    """
    found = {}
    for name in sorted(environ):
        if name.upper().startswith(PREFIX):
            found[tuple(name[len(PREFIX) :].split("__"))] = _from_environment(name, environ[name])
    if "RAMBLA_ENABLED" in environ:
        found["RAMBLA", "ENABLED"] = _from_environment("RAMBLA_ENABLED", environ["RAMBLA_ENABLED"])
    return found


def _from_environment(name: str, value: str) -> Node:
    return Node(value, f"environment variable {name}", lenient=True, final=True, hidden=looks_secret(name))


def overridden(
    tree: Node, values: Mapping[tuple[str, ...], Node], findings: Findings, path: str = ""
) -> Node:
    """Return the tree with values of the environment laid over it.

    A part of a name means the key that it equals but for case and ``-`` for ``_``, else itself in lower case.
    """
    for keys, value in values.items():
        tree = _set(tree, keys, value, findings, path)
    return tree


def _set(tree: Node, keys: tuple[str, ...], value: Node, findings: Findings, path: str) -> Node:
    if not all(keys):
        findings.problem(value.file or path, expected=f"{PREFIX}TABLE__KEY", got="an empty part in the name")
        return tree
    if not isinstance(tree.value, dict):
        findings.problem(
            path, expected="a table, as the variable's name has it", got="a value", file=value.file
        )
        return tree
    key = _key(tree, keys[0])
    if keys[1:]:
        below = tree.value.get(key, wrap({}, value.file))
        value = _set(below, keys[1:], value, findings, joined(path, key))
    return msgspec.structs.replace(tree, value={**tree.value, key: value})


def _key(tree: Node, part: str) -> str:
    if part in tree.value:
        return part
    for key in tree.value:
        if _folded(key) == _folded(part):
            return str(key)
    return part.lower()


def _folded(key: str) -> str:
    return key.casefold().replace("-", "_")
