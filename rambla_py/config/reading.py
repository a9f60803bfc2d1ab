"""Search for configuration files, and reading of them with their includes."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from rambla_py._internal.text_files import decoded, without_line_break
from rambla_py.config.describe import value_in_words
from rambla_py.config.interpolation import InterpolationError, expand
from rambla_py.config.problems import ProblemList
from rambla_py.config.raw_tree import Node, merge, plain, wrap

__all__ = ["Reading", "read"]

PLACES = ("rambla.toml", "config/rambla.toml")
PYPROJECT = "pyproject.toml"


class Reading(msgspec.Struct):
    """The merged tree of all files, and their names, starting with the main file."""

    tree: Node
    files: list[str]


def read(
    source: Mapping[str, Any] | str | Path | None, environ: Mapping[str, str], problems: ProblemList
) -> Reading:
    """Read a mapping, a file, or the first file found in the default locations."""
    reading = Reading(wrap({}), [])
    if isinstance(source, Mapping):
        tree, base = wrap(source), Path()
        reading.tree = _with_includes(tree, base, (), environ, reading, problems)
        return reading
    found = Path(source) if source is not None else _search(environ, problems)
    if found is not None:
        reading.tree = _read_file(found, (), environ, reading, problems, path="configuration")
    return reading


def _search(environ: Mapping[str, str], problems: ProblemList) -> Path | None:
    if environ.get("RAMBLA_CONFIG"):
        return Path(without_line_break(environ["RAMBLA_CONFIG"]))
    for place in PLACES:
        if Path(place).is_file():
            return Path(place)
    if _tool_table(Path(PYPROJECT)) is not None:
        return Path(PYPROJECT)
    places = ", ".join(PLACES)
    problems.add(
        "configuration",
        expected="a configuration file",
        got="none",
        hint=f"looked at $RAMBLA_CONFIG (not set), {places} and [tool.rambla] of {PYPROJECT} in {Path.cwd()}",
    )
    return None


def _tool_table(path: Path) -> dict[str, Any] | None:
    try:
        table = tomllib.loads(decoded(path.read_bytes())).get("tool", {}).get("rambla")
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) else None


def _read_file(
    file: Path,
    above: tuple[Path, ...],
    environ: Mapping[str, str],
    reading: Reading,
    problems: ProblemList,
    *,
    path: str,
) -> Node:
    identity = file.resolve()
    if identity in above:
        chain = " -> ".join(step.name for step in (*above[above.index(identity) :], identity))
        problems.add(path, expected="files that do not include each other", got=chain, file=str(file))
        return wrap({})
    data = _parsed(file, problems, path)
    if data is None:
        problems.incomplete = True
        return wrap({})
    if str(file) not in reading.files:
        reading.files.append(str(file))
    return _with_includes(wrap(data, str(file)), file.parent, (*above, identity), environ, reading, problems)


def _parsed(file: Path, problems: ProblemList, path: str) -> dict[str, Any] | None:
    if file.name == PYPROJECT and (table := _tool_table(file)) is not None:
        problems.source(str(file), file.read_text("utf-8"), below=("tool", "rambla"))
        return table
    text = ""
    try:
        text = decoded(file.read_bytes())
        data = tomllib.loads(text)
        problems.source(str(file), text)
        return data
    except tomllib.TOMLDecodeError as error:
        hint = _hint(text, str(error))
        problems.add(path, expected="valid TOML", got=str(error), file=str(file), hint=hint)
    except UnicodeDecodeError as error:
        problems.add(path, expected="text in UTF-8", got=f"other bytes at {error.start}", file=str(file))
    except OSError as error:
        got = (error.strerror or type(error).__name__).lower()
        hint = f"looked at {file.absolute()}"
        problems.add(path, expected="a readable TOML file", got=got, file=str(file), hint=hint)
    return None


def _hint(text: str, error: str) -> str | None:
    """Return what to do about a line that TOML cannot read: mostly it is a variable without quotes."""
    found = re.search(r"at line (\d+)", error)
    line = text.splitlines()[int(found[1]) - 1] if found else ""
    variable = re.search(r"=\s*(\$\{[^}\s]*\})", line)
    return (
        f'write it in quotes: "{variable[1]}" becomes a number or a boolean where one is expected'
        if variable
        else None
    )


def _with_includes(
    tree: Node,
    folder: Path,
    above: tuple[Path, ...],
    environ: Mapping[str, str],
    reading: Reading,
    problems: ProblemList,
) -> Node:
    base = wrap({})
    for name in _includes(tree, environ, problems):
        base = merge(base, _read_file(folder / name, above, environ, reading, problems, path="include"))
    return merge(base, _without_includes(tree))


def _includes(tree: Node, environ: Mapping[str, str], problems: ProblemList) -> list[str]:
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
            problems.add(path, expected=expected, got=value_in_words(entries), file=node.file)
            continue
        for entry in entries:
            try:
                names.append(expand(entry, environ, _no_file).text)
            except InterpolationError as error:
                problems.add(path, expected=error.expected, got=error.got, file=node.file, hint=error.hint)
    return names


def _no_file(path: str) -> str:
    raise OSError(1, "not here")


def _without_includes(tree: Node) -> Node:
    tree = tree.without("include")
    rambla = tree.get("rambla")
    if rambla is None or not rambla.is_table:
        return tree
    return msgspec.structs.replace(tree, value={**tree.value, "rambla": rambla.without("include")})
