"""The tables of options in the documentation are those that the checks of the configuration know."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import handler_docs
import pytest
from pages import ROOT

SCRIPT = Path(handler_docs.__file__)


def test_tables_are_up_to_date() -> None:
    """Every handler has its page, with every option of it; run scripts/handler_docs.py to mend it."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_option_missing_from_a_page_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A page that lost one line of its table fails the check."""
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = docs / "handlers" / "redis.md"
    kept = [line for line in page.read_text("utf-8").splitlines() if not line.startswith("| `max_len`")]
    page.write_text("\n".join(kept) + "\n", "utf-8")
    assert handler_docs.main(["--check", "--docs", str(docs)]) == 1
    assert "docs/handlers/redis.md is not up to date" in capsys.readouterr().err


def test_a_handler_without_a_page_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A handler without a page fails the check."""
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (docs / "handlers" / "null.md").unlink()
    assert handler_docs.main(["--check", "--docs", str(docs)]) == 1
    assert "docs/handlers/null.md: no part 'generated: options null'" in capsys.readouterr().err


def test_a_fresh_page_is_written_from_its_markers(tmp_path: Path) -> None:
    """Between the markers the script writes the table, and leaves the rest of the page as it is."""
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = docs / "handlers" / "stub.md"
    before = page.read_text("utf-8")
    page.write_text(before.replace("| `result` |", "| `outcome` |"), "utf-8")
    assert handler_docs.main(["--docs", str(docs)]) == 0
    assert page.read_text("utf-8") == before


def test_the_readme_names_every_handler() -> None:
    """The README links to the page of each handler."""
    text = (ROOT / "README.md").read_text("utf-8")
    pages = sorted(path.name for path in (ROOT / "docs" / "handlers").glob("*.md"))
    assert [page for page in pages if f"(docs/handlers/{page})" not in text] == []


def test_every_logger_is_documented() -> None:
    """The table of loggers has each name that the code uses, and no other."""
    sources = [
        path.read_text("utf-8") for path in (ROOT / "rambla_py").rglob("*.py") if "testing" not in path.parts
    ]
    used = {name for text in sources for name in re.findall(r'getLogger\("(rambla_py[\w.]*)"\)', text)}
    page = (ROOT / "docs" / "observing.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `rambla_py")]
    assert used == {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}
