"""Interpolation of ``${...}`` in strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from rambla_py._internal.text_files import without_line_break

__all__ = ["Expansion", "InterpolationError", "expand"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEXT = re.compile(r"\$\$|\$\{")


class InterpolationError(Exception):
    """A ``${...}`` that cannot be replaced: what was expected, what was found, and a hint."""

    def __init__(self, expected: str, got: str, hint: str | None = None) -> None:
        super().__init__(expected, got, hint)
        self.expected, self.got, self.hint = expected, got, hint


class Expansion(NamedTuple):
    """A string with everything replaced.

    ``whole``: the string was a single ``${...}``. ``names`` are the variables that were used, with their
    values; ``contents`` are the contents of files that were read.
    """

    text: str
    whole: bool = False
    names: tuple[tuple[str, str], ...] = ()
    contents: tuple[str, ...] = ()


def expand(text: str, environ: Mapping[str, str], read: Callable[[str], str]) -> Expansion:
    """Replace ``${NAME}``, ``${NAME:-default}``, ``${NAME:?message}``, ``${file:PATH}`` and ``$$``.

    ``read(path)`` returns a file's text and may raise ``OSError`` or ``UnicodeError``. A line break at the
    end of a file or a variable is removed. A default is used when the variable is unset or empty, and may
    itself contain ``${...}``; inserted values are not interpolated again. Raises ``InterpolationError``.

    >>> expand("amqp://${HOST:-localhost}/$$x", {}, open).text
    'amqp://localhost/$x'
    """
    if "$" not in text:
        return Expansion(text)
    pieces: list[str] = []
    names: list[tuple[str, str]] = []
    contents: list[str] = []
    position, whole = 0, False
    while found := _NEXT.search(text, position):
        pieces.append(text[position : found.start()])
        if found.group() == "$$":
            pieces.append("$")
            position = found.end()
            continue
        position = _closing(text, found.end())
        inner = _replace(text[found.end() : position - 1], environ, read)
        pieces.append(inner.text)
        names.extend(inner.names)
        contents.extend(inner.contents)
        whole = found.start() == 0 and position == len(text)
    pieces.append(text[position:])
    return Expansion("".join(pieces), whole, tuple(names), tuple(contents))


def _closing(text: str, start: int) -> int:
    """Return the position after the brace that closes the ``${`` before ``start``."""
    depth, position = 1, start
    while depth and position < len(text):
        if text.startswith("$$", position):
            position += 2
        elif text.startswith("${", position):
            depth, position = depth + 1, position + 2
        else:
            depth -= text[position] == "}"
            position += 1
    if depth:
        opened = text[start - 2 :]
        shown = opened if len(opened) <= 40 else opened[:40] + "..."
        raise InterpolationError("'}' after '${'", repr(shown), "write $$ for a dollar sign")
    return position


def _replace(body: str, environ: Mapping[str, str], read: Callable[[str], str]) -> Expansion:
    if body.startswith("file:"):
        return _from_file(expand(body.removeprefix("file:"), environ, read).text, read)
    found = _NAME.match(body)
    name, rest = (found.group(), body[found.end() :]) if found else ("", body)
    if not name or (rest and rest[:2] not in (":-", ":?")):
        raise InterpolationError(
            "${NAME}, ${NAME:-default}, ${NAME:?message} or ${file:PATH}",
            repr("${" + body + "}"),
            "write $$ for a dollar sign",
        )
    value = environ.get(name)
    value = None if value is None else without_line_break(value)
    if rest.startswith(":-") and not value:
        return expand(rest[2:], environ, read)
    if value is None or (rest.startswith(":?") and not value):
        state = "an empty value" if value == "" else "none"
        hint = rest[2:] or f"set it, or write ${{{name}:-default}}"
        raise InterpolationError(f"the environment variable {name}", state, hint)
    return Expansion(value, names=((name, value),))


def _from_file(path: str, read: Callable[[str], str]) -> Expansion:
    try:
        text = read(path)
    except UnicodeDecodeError as error:
        got = f"other bytes at {error.start}"
        raise InterpolationError(f"text in UTF-8 in the file {path!r}", got) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InterpolationError(f"a readable file {path!r}", reason.lower()) from error
    content = without_line_break(text)
    return Expansion(content, contents=(content,))
