"""The store that docs/state.md shows is right, and every option of ``rambla state`` is documented."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from cli_help import options_of

import rambla_py.state

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "state.md"
TIMEOUT_S = 100


def test_the_store_of_the_page_passes_the_suite(tmp_path: Path) -> None:
    """In its own folder, as its author would run it."""
    own = PAGE.read_text().partition("## A store of your own")[2]
    blocks = re.findall(r"^```python\n(.*?)^```", own, re.DOTALL | re.MULTILINE)
    (tmp_path / "test_own.py").write_text("\n".join(blocks))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_own.py"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 20


def test_every_store_and_error_is_documented() -> None:
    """Those that the package shows; the contract of rows aside."""
    page = PAGE.read_text()
    names = [name for name in rambla_py.state.__all__ if name.endswith(("Store", "Error"))]
    unnamed = {"StateStore", "StateError"}
    assert [name for name in names if f"`{name}" not in page and name not in unnamed] == []


def test_every_option_of_the_server_is_documented() -> None:
    """In its section of the page of the command line."""
    section = (ROOT / "docs" / "cli.md").read_text().partition("\n## `rambla state serve")[2]
    options = options_of("state", "serve") - {"--help"}
    assert len(options) == 7
    assert [option for option in sorted(options) if f"`{option}" not in section] == []


def test_every_option_of_the_other_commands_is_documented() -> None:
    """In the section about them."""
    section = (ROOT / "docs" / "cli.md").read_text().partition("\n## `rambla state`")[2].partition("\n## ")[0]
    for command in ("get", "set", "list", "delete", "cleanup"):
        options = options_of("state", command) - {"--help"}
        assert len(options) >= 5
        assert [option for option in sorted(options) if f"`{option}" not in section] == []
