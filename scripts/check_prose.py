"""Words that the project's prose does without, each with what to write instead.

Usage: python scripts/check_prose.py [PATH ...]. Prints ``file:line: word; write ...`` for each occurrence and
exits with 1 when there is any. Without paths it reads everything but the tests.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PLACES: Final = ("rambla_py", "docs", "examples", "scripts", "README.md", "CHANGELOG.md", "CONTRIBUTING.md")
SUFFIXES: Final = frozenset({".py", ".md", ".toml", ".sh"})

INSTEAD: Final = {
    r"\bstrangers?\b": "third-party",
    r"\b[Ww]ho(so)?ever\b": "the caller, the worker ...: the one that is meant",
    r"\b[Nn]obody\b": "no caller, no worker ...: the one that is meant",
    r"\banew\b": "again",
    r"\b[Aa] text\b(?! (file|column|body|part|field|frame|format|mode|message|search))": "a string",
    r"\bhears? of\b": "is called with, is notified of",
    r"\b[Tt]akes? note\b": "record",
    r"\bThis (module|package)\b": "a noun phrase",
    r"\bstands? for\b": "is, represents",
    r"\b[Ss]ays? whether\b": "return whether",
    r"\b[Cc]ulprits?\b": "the cause, the path to the value",
    r"\brous(e|es|ed|ing)\b": "wake",
    r"\bnudg(e|es|ed|ing)\b": "wake",
}

CODE: Final = re.compile(r"`[^`]+`")


def findings(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the line, the word and what to write instead, for each banned word outside of code."""
    for number, written in enumerate(path.read_text("utf-8").splitlines(), 1):
        line = CODE.sub("", written)
        for pattern, instead in INSTEAD.items():
            for found in re.finditer(pattern, line):
                yield number, found[0], instead


def files(places: list[str]) -> Iterator[Path]:
    """Yield the files to read, folders at every depth."""
    for place in places:
        path = ROOT / place
        found = [path] if path.is_file() else sorted(path.rglob("*"))
        yield from (one for one in found if one.suffix in SUFFIXES and one != Path(__file__).resolve())


def main() -> int:
    """Print what was found; 1 when there was anything."""
    count = 0
    for path in files(sys.argv[1:] or list(PLACES)):
        for number, word, instead in findings(path):
            print(f"{path.relative_to(ROOT)}:{number}: {word!r}; write {instead}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
