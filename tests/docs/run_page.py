"""Run the blocks of one page in order, in one namespace, in the current folder.

A Python or TOML block whose first line names a file (``# shop/handlers.py``) is written to it; any other is
run, or loaded as a configuration. After all blocks the TOML files are loaded as well.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pages import Block, blocks_of

from rambla_py import ConfigError, load_config


class PageError(Exception):
    """A block does not do what its page says."""


class PageRun:
    """What the blocks of a page have done so far."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.names: dict[str, Any] = {"__name__": "__page__"}
        self.said: str | None = None
        self.configs: list[str] = []

    def run(self, block: Block) -> None:
        """Do what the block is for."""
        if block.note.startswith("no-run"):
            return
        if block.note == "output":
            self._compare("printed", self.said, block)
        elif block.note == "refused":
            self.said = _refusal(block)
        elif block.language in ("python", "toml"):
            self._write(block) if block.file else self._try(block)

    def _write(self, block: Block) -> None:
        path = Path(block.file or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, "utf-8")
        if path.suffix == ".toml":
            self.configs.append(str(path))

    def _try(self, block: Block) -> None:
        if block.language == "toml":
            load_config(tomllib.loads(block.text))
            return
        # The empty lines before it make a traceback name the line of the page.
        code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(code, self.names)
        self.said = said.getvalue()

    def _compare(self, what: str, got: str | None, block: Block) -> None:
        if got is None or got.rstrip() != block.text.rstrip():
            raise PageError(
                f"line {block.line}: the page has\n{block.text}\nbut the block above {what}\n{got}"
            )


def _refusal(block: Block) -> str:
    try:
        Path(block.file).write_text(block.text, "utf-8") if block.file else None
        load_config(block.file or tomllib.loads(block.text))
    except ConfigError as error:
        return str(error)
    raise PageError("this configuration was to be refused, and is taken")


@contextlib.contextmanager
def _located(page: Path, block: Block) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(f"in the block of {page.name} that begins on line {block.line}")
        raise


def main(page: Path) -> None:
    """Run a page; whatever a block raises leaves with the page and the line in it."""
    sys.path.insert(0, str(Path.cwd()))
    run = PageRun(page)
    for block in blocks_of(page.read_text("utf-8")):
        with _located(page, block):
            run.run(block)
    for name in run.configs:
        load_config(name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
