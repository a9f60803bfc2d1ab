"""Environment variables: interpolation into the raw tree, and ``RAMBLA__`` overrides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from rambla_py._internal.redaction import looks_secret
from rambla_py._internal.text_files import decoded, without_line_break
from rambla_py.config.interpolation import InterpolationError, expand
from rambla_py.config.problems import ProblemList, joined
from rambla_py.config.raw_tree import Node, wrap

__all__ = ["interpolated", "overridden", "overrides"]

PREFIX = "RAMBLA__"


def interpolated(node: Node, path: str, environ: Mapping[str, str], problems: ProblemList) -> Node:
    """Return the tree with ``${...}`` replaced in its strings.

    A string that cannot be interpolated is reported and marked ``failed``. Paths of ``${file:...}`` are
    relative to the configuration file. Values from files, and from variables whose name looks like that of a
    secret, are recorded as secrets.
    """
    if node.final:
        return node
    if isinstance(node.value, dict):
        table = {
            key: interpolated(item, joined(path, key), environ, problems) for key, item in node.value.items()
        }
        return msgspec.structs.replace(node, value=table)
    if isinstance(node.value, list):
        items = [interpolated(item, f"{path}[{at}]", environ, problems) for at, item in enumerate(node.value)]
        return msgspec.structs.replace(node, value=items)
    if not isinstance(node.value, str) or "$" not in node.value:
        return node
    return _expanded(node, path, environ, problems)


def _expanded(node: Node, path: str, environ: Mapping[str, str], problems: ProblemList) -> Node:
    folder = Path(node.file).parent if node.file else Path()
    try:
        expansion = expand(node.value, environ, lambda name: decoded((folder / name).read_bytes()))
    except InterpolationError as error:
        problems.add(path, expected=error.expected, got=error.got, file=node.file, hint=error.hint)
        return msgspec.structs.replace(node, failed=True)
    hidden = [value for name, value in expansion.names if looks_secret(name)]
    hidden.extend(expansion.contents)
    problems.secret(*hidden)
    return msgspec.structs.replace(
        node, value=expansion.text, lenient=expansion.whole, final=True, hidden=bool(hidden)
    )


def overrides(environ: Mapping[str, str]) -> dict[tuple[str, ...], Node]:
    """Return the settings in the environment by path, as in ``RAMBLA__AMQP__CONNECTIONS__LOCAL__URL``.

    >>> list(overrides({"RAMBLA__AMQP__CHANNELS__ORDERS__COUNT": "4", "HOME": "/"}))
    [('AMQP', 'CHANNELS', 'ORDERS', 'COUNT')]
    """
    found = {}
    for name in sorted(environ):
        if name.upper().startswith(PREFIX):
            found[tuple(name[len(PREFIX) :].split("__"))] = _from_environment(name, environ[name])
    if "RAMBLA_ENABLED" in environ:
        found["RAMBLA", "ENABLED"] = _from_environment("RAMBLA_ENABLED", environ["RAMBLA_ENABLED"])
    if environ.get("RAMBLA_WEB_TOKEN"):
        found["RAMBLA", "WEB", "TOKEN"] = _from_environment("RAMBLA_WEB_TOKEN", environ["RAMBLA_WEB_TOKEN"])
    return found


def _from_environment(name: str, value: str) -> Node:
    value = without_line_break(value)
    return Node(value, f"environment variable {name}", lenient=True, final=True, hidden=looks_secret(name))


def overridden(
    tree: Node, values: Mapping[tuple[str, ...], Node], problems: ProblemList, path: str = ""
) -> Node:
    """Return the tree with values from the environment merged over it.

    A part of a name matches an existing key regardless of case and of ``-`` or ``_``; without a match it
    becomes a new key in lower case. ``RAMBLA__ANALYTICS__`` is ``[rambla.analytics]``, unless there is a
    service of that name.
    """
    services = {_folded(key) for key in tree.value} if tree.is_table else set()
    for keys, value in values.items():
        inside = not path and len(keys) > 1 and _folded(keys[0]) == "analytics" not in services
        tree = _set(tree, ("rambla", *keys) if inside else keys, value, problems, path)
    return tree


def _set(tree: Node, keys: tuple[str, ...], value: Node, problems: ProblemList, path: str) -> Node:
    if not all(keys):
        problems.add(value.file or path, expected=f"{PREFIX}TABLE__KEY", got="an empty part in the name")
        return tree
    if not isinstance(tree.value, dict):
        problems.add(
            path, expected="a table, according to the variable's name", got="a value", file=value.file
        )
        return tree
    key, rest = _key(tree, keys)
    if rest:
        below = tree.value.get(key, wrap({}, value.file))
        value = _set(below, rest, value, problems, joined(path, key))
    return msgspec.structs.replace(tree, value={**tree.value, key: value})


def _key(tree: Node, parts: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return the key that the first of these parts mean, and the rest; a key may have ``__`` in it."""
    for number in range(len(parts), 0, -1):
        part = "__".join(parts[:number])
        if part in tree.value:
            return part, parts[number:]
        for key in tree.value:
            if _folded(key) == _folded(part):
                return str(key), parts[number:]
    return parts[0].lower(), parts[1:]


def _folded(key: str) -> str:
    return key.casefold().replace("-", "_")
