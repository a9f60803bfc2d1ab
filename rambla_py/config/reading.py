"""This module finds and reads the files of a configuration, and what they include."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rambla_py.config.findings import Findings
from rambla_py.config.interpolation import InterpolationError, expand
from rambla_py.config.node import Node, merge, plain, wrap
from rambla_py.config.words import value_in_words

__all__ = ["Reading", "read"]

PLACES = ("rambla.toml", "config/rambla.toml")
PYPROJECT = "pyproject.toml"


class Reading(msgspec.Struct):
    """The merged tree of all files, and their names, the first one first."""

    tree: Node
    files: list[str]


def read(
    source: Mapping[str, Any] | str | Path | None, environ: Mapping[str, str], findings: Findings
) -> Reading:
    """Read a mapping, a file, or the first file found where files are looked for."""
    reading = Reading(wrap({}), [])
    if isinstance(source, Mapping):
        tree, base = wrap(source), Path()
        reading.tree = _with_includes(tree, base, (), environ, reading, findings)
        return reading
    found = Path(source) if source is not None else _search(environ, findings)
    if found is not None:
        reading.tree = _read_file(found, (), environ, reading, findings, path="configuration")
    return reading


def _search(environ: Mapping[str, str], findings: Findings) -> Path | None:
    if environ.get("RAMBLA_CONFIG"):
        return Path(environ["RAMBLA_CONFIG"])
    for place in PLACES:
        if Path(place).is_file():
            return Path(place)
    if _tool_table(Path(PYPROJECT)) is not None:
        return Path(PYPROJECT)
    places = ", ".join(PLACES)
    findings.problem(
        "configuration",
        expected="a configuration file",
        got="none",
        hint=f"looked at $RAMBLA_CONFIG (not set), {places} and [tool.rambla] of {PYPROJECT} in {Path.cwd()}",
    )
    return None


def _tool_table(path: Path) -> dict[str, Any] | None:
    try:
        table = tomllib.loads(path.read_text("utf-8")).get("tool", {}).get("rambla")
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) else None


def _read_file(
    file: Path,
    above: tuple[Path, ...],
    environ: Mapping[str, str],
    reading: Reading,
    findings: Findings,
    *,
    path: str,
) -> Node:
    identity = file.resolve()
    if identity in above:
        chain = " -> ".join(step.name for step in (*above[above.index(identity) :], identity))
        findings.problem(path, expected="files that do not include each other", got=chain, file=str(file))
        return wrap({})
    data = _parsed(file, findings, path)
    if data is None:
        findings.incomplete = True
        return wrap({})
    if str(file) not in reading.files:
        reading.files.append(str(file))
    return _with_includes(wrap(data, str(file)), file.parent, (*above, identity), environ, reading, findings)


def _parsed(file: Path, findings: Findings, path: str) -> dict[str, Any] | None:
    if file.name == PYPROJECT and (table := _tool_table(file)) is not None:
        return table
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        findings.problem(path, expected="valid TOML", got=str(error), file=str(file))
    except UnicodeDecodeError as error:
        findings.problem(
            path, expected="a text in UTF-8", got=f"other bytes at {error.start}", file=str(file)
        )
    except OSError as error:
        got = (error.strerror or type(error).__name__).lower()
        hint = f"looked at {file.absolute()}"
        findings.problem(path, expected="a readable TOML file", got=got, file=str(file), hint=hint)
    return None


def _with_includes(
    tree: Node,
    folder: Path,
    above: tuple[Path, ...],
    environ: Mapping[str, str],
    reading: Reading,
    findings: Findings,
) -> Node:
    base = wrap({})
    for name in _includes(tree, environ, findings):
        base = merge(base, _read_file(folder / name, above, environ, reading, findings, path="include"))
    return merge(base, _without_includes(tree))


def _includes(tree: Node, environ: Mapping[str, str], findings: Findings) -> list[str]:
    names: list[str] = []
    rambla = tree.get("rambla")
    for path, node in (
        ("include", tree.get("include")),
        ("rambla.include", rambla and rambla.get("include")),
    ):
        if node is None:
            continue
        entries = plain(node)
        if not (isinstance(entries, list) and all(isinstance(entry, str) for entry in entries)):
            expected = "a list of file names"
            findings.problem(path, expected=expected, got=value_in_words(entries), file=node.file)
            continue
        for entry in entries:
            try:
                names.append(expand(entry, environ, _no_file).text)
            except InterpolationError as error:
                findings.problem(
                    path, expected=error.expected, got=error.got, file=node.file, hint=error.hint
                )
    return names


def _no_file(path: str) -> str:
    raise OSError(1, "not here")


def _without_includes(tree: Node) -> Node:
    tree = tree.without("include")
    rambla = tree.get("rambla")
    if rambla is None or not rambla.is_table:
        return tree
    return msgspec.structs.replace(tree, value={**tree.value, "rambla": rambla.without("include")})
