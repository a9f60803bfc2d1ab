"""The examples run as they are, and do what they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

EXAMPLES = ROOT / "examples"
PRINTED = {
    "quickstart/quickstart.py": [
        "order 3: file ok",
        "order 3: memory ok",
        "file.orders: 3 accepted, 3 ok",
        "memory.orders: 3 accepted, 3 ok",
        "kept in memory: [{'id': 1}, {'id': 2}, {'id': 3}]",
    ],
    "custom_handler_inline.py": ["news: IT WORKS", "characters: 8", "fatal: there is nothing to shout"],
    "asyncio_app.py": [
        "1000 requests answered",
        "memory.events: 1000 of 1000 delivered",
        "null.events: 1000 of 1000 delivered",
    ],
}


@pytest.mark.parametrize("example", PRINTED)
def test_an_example_prints_what_it_promises(example: str, tmp_path: Path) -> None:
    """Run in an empty folder, it prints what its reader expects, with no warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / example)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == PRINTED[example]


def test_the_quickstart_writes_its_file(tmp_path: Path) -> None:
    """The orders stand in the file, one a line, those of a key in their order."""
    subprocess.run([sys.executable, str(EXAMPLES / "quickstart/quickstart.py")], cwd=tmp_path, check=True)
    assert (tmp_path / "orders.jsonl").read_text() == '{"id":1}\n{"id":2}\n{"id":3}\n'


def test_every_example_is_run() -> None:
    """No example stands there untested; the packages and the shop have tests of their own, which are run too."""
    listed = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*.py")}
    assert {
        path
        for path in listed
        if not path.startswith(("custom_handler/", "custom_dialect/", "custom_store/", "shop/"))
    } == set(PRINTED)
