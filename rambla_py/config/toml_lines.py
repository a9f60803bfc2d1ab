"""Lines of the keys in a TOML text."""

from __future__ import annotations

import re

__all__ = ["line_of", "lines_of"]

_KEY = re.compile(r'[ \t]*("(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+)[ \t]*(\.?)')
_STRING = re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL)
_STEP = re.compile(r'"((?:[^"])*)"|([^.\[\]]+)')
_REST = re.compile(r"[^\n]*")

Path = tuple[str, ...]


def lines_of(text: str) -> dict[Path, int]:
    r"""Return the line of each table and key of a valid TOML text, the first line is 1.

    >>> lines_of('[a]\nb = [\n  1,\n]\nc.d = 2\n')
    {('a',): 1, ('a', 'b'): 2, ('a', 'c'): 5, ('a', 'c', 'd'): 5}
    """
    lines: dict[Path, int] = {}
    table: Path = ()
    at = 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
        elif text[at] == "#":
            at = _end_of_line(text, at)
        elif text[at] == "[":
            table, after = _key(text, at + (2 if text.startswith("[[", at) else 1))
            _note(lines, (), table, _line(text, at))
            at = _end_of_line(text, after)
        else:
            key, after = _key(text, at)
            _note(lines, table, key, _line(text, at))
            at = _end_of_value(text, max(after, at + 1))
    return lines


def line_of(path: str, lines: dict[Path, int], *, below: Path = ()) -> int | None:
    """Return the line of a dotted path, or of the nearest table around it; ``below`` precedes the path.

    >>> line_of("a.b.c[2]", {("a",): 1, ("a", "b"): 4}), line_of('x."y.z"', {("x", "y.z"): 7})
    (4, 7)
    """
    steps = (*below, *(quoted or bare for quoted, bare in _STEP.findall(re.sub(r"\[\d+\]", "", path))))
    for length in range(len(steps), len(below), -1):
        if steps[:length] in lines:
            return lines[steps[:length]]
    return None


def _note(lines: dict[Path, int], table: Path, key: Path, line: int) -> None:
    for length in range(1, len(key) + 1):
        lines.setdefault((*table, *key[:length]), line)


def _key(text: str, at: int) -> tuple[Path, int]:
    """Return a dotted key and where it ends."""
    parts: list[str] = []
    while found := _KEY.match(text, at):
        part = found[1]
        parts.append(part[1:-1] if part[0] in "\"'" else part)
        at = found.end()
        if not found[2]:
            break
    return tuple(parts), at


def _end_of_value(text: str, at: int) -> int:
    depth = 0
    while at < len(text):
        char = text[at]
        if char in "\"'" and (string := _STRING.match(text, at)):
            at = string.end()
            continue
        if char == "#":
            at = _end_of_line(text, at)
            continue
        if char == "\n" and depth == 0:
            break
        depth += (char in "[{") - (char in "]}")
        at += 1
    return at


def _end_of_line(text: str, at: int) -> int:
    found = _REST.match(text, at)
    return len(text) if found is None else found.end()


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
