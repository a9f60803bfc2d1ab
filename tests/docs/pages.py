"""The pages of the documentation, and the blocks and links in each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOT", "Block", "all_pages", "blocks_of", "inline_code", "links_of", "needs_of"]

ROOT = Path(__file__).resolve().parents[2]

_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*)\s*")
_NOTE = re.compile(r"\s*<!-- (?P<note>(?:no-run|refused|output|needs|file)\b.*?) -->\s*")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_CODE = re.compile(r"(?<!`)`(?P<code>[^`\n]+)`(?!`)")
_FILE = re.compile(r"#\s*(?P<name>[\w./-]+\.(?:py|toml))\b")


class Block(NamedTuple):
    """A fenced block: its language, its text, the line its text begins on, and the note above it.

    Notes are HTML comments: ``no-run: REASON``, ``refused`` (TOML that must be refused), ``output`` (what the
    Python block before it printed).
    """

    language: str
    text: str
    line: int
    note: str = ""

    @property
    def file(self) -> str | None:
        """The file that the block's first line names, as in ``# shop/handlers.py``."""
        found = _FILE.match(self.text)
        return found["name"] if found else None


def all_pages() -> list[Path]:
    """Return every page that readers of the repository see."""
    folders = [path for folder in ("docs", "examples") for path in sorted(ROOT.glob(f"{folder}/**/*.md"))]
    roots = [ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")]
    return [*roots, *folders]


def needs_of(page: Path) -> list[str]:
    """Return the servers that a page asks for with ``<!-- needs: rabbitmq redis -->``."""
    found = re.search(r"<!-- needs: ([\w ]+) -->", page.read_text("utf-8"))
    return found[1].split() if found else []


def blocks_of(text: str) -> Iterator[Block]:
    r"""Yield the fenced blocks of a page, in order.

    >>> [block.text for block in blocks_of("```python\nprint(1)\n```")]
    ['print(1)\n']
    """
    lines = text.splitlines()
    at, note = 0, ""
    while at < len(lines):
        noted = _NOTE.fullmatch(lines[at])
        opened = _FENCE.fullmatch(lines[at])
        at += 1
        if opened is None:
            note = noted["note"] if noted else ("" if lines[at - 1].strip() else note)
            continue
        start, width = at, len(opened["indent"])
        while at < len(lines) and lines[at].strip() != opened["fence"]:
            at += 1
        body = "".join(line[width:] + "\n" for line in lines[start:at])
        yield Block(opened["language"], body, start + 1, note)
        at, note = at + 1, ""


def links_of(text: str) -> list[str]:
    """Return the targets of a page's links, but for those inside blocks.

    >>> links_of("see [there](docs/there.md)")
    ['docs/there.md']
    """
    return [found["target"] for found in _LINK.finditer(_without_blocks(text))]


def inline_code(text: str) -> list[str]:
    """Return what stands between single backticks, but for that inside blocks.

    >>> inline_code("call `stop()`")
    ['stop()']
    """
    return [found["code"] for found in _CODE.finditer(_without_blocks(text))]


def _without_blocks(text: str) -> str:
    return re.sub(r"^ *(`{3,})[\w+-]*\s*\n.*?^ *\1\s*$", "", text, flags=re.DOTALL | re.MULTILINE)
