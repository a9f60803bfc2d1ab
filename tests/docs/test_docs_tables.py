"""The tables of options in the documentation are those that the checks of the configuration know."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from pages import ROOT

SCRIPT = ROOT / "scripts" / "handler_docs.py"


def check(docs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "--check", "--docs", str(docs)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_tables_are_up_to_date() -> None:
    """Every handler has its page, with every option of it; run scripts/handler_docs.py to mend it."""
    done = check(ROOT / "docs")
    assert done.returncode == 0, done.stderr


def test_an_option_missing_from_a_page_is_found_out(tmp_path: Path) -> None:
    """A page that lost one line of its table fails the check."""
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = docs / "handlers" / "redis.md"
    kept = [line for line in page.read_text("utf-8").splitlines() if not line.startswith("| `max_len`")]
    page.write_text("\n".join(kept) + "\n", "utf-8")
    done = check(docs)
    assert done.returncode == 1
    assert "docs/handlers/redis.md is not up to date" in done.stderr


def test_a_handler_without_a_page_is_found_out(tmp_path: Path) -> None:
    """A handler without a page fails the check."""
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    (docs / "handlers" / "null.md").unlink()
    done = check(docs)
    assert done.returncode == 1
    assert "docs/handlers/null.md: no part 'generated: options null'" in done.stderr


def test_a_fresh_page_is_written_from_its_markers(tmp_path: Path) -> None:
    """Between the markers the script writes the table, and leaves the rest of the page as it is."""
    docs = shutil.copytree(ROOT / "docs", tmp_path / "docs")
    page = docs / "handlers" / "stub.md"
    before = page.read_text("utf-8")
    page.write_text(before.replace("| `result` |", "| `outcome` |"), "utf-8")
    subprocess.run([sys.executable, str(SCRIPT), "--docs", str(docs)], check=True, timeout=60)
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
