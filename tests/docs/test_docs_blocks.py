"""What the pages show runs: every block of Python, every configuration, every printed line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT, all_pages, blocks_of, needs_of

RUNNER = Path(__file__).with_name("run_page.py")
SERVERS = {
    "rabbitmq": ("rabbitmq", "RABBITMQ_URL"),
    "redis": ("redis_server", "REDIS_URL"),
    "clickhouse": ("clickhouse", "CLICKHOUSE_URL"),
    "smtp": ("smtp_server", "SMTP_RELAY"),
    "kafka": ("kafka_cluster", "KAFKA_SERVERS"),
    "nats": ("nats_server", "NATS_URL"),
    "mqtt": ("mosquitto", "MQTT_URL"),
    "postgres": ("postgres_server", "POSTGRES_URL"),
}
TIMEOUT_S = 60.0
WITH_BLOCKS = [
    page
    for page in all_pages()
    if any(block.language in ("python", "toml") for block in blocks_of(page.read_text("utf-8")))
]
"""The pages that have something to run: the program takes its time for an empty one, too."""


def run_page(page: Path, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    paths = [
        str(RUNNER.parent),
        str(ROOT / "tests" / "support"),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    return subprocess.run(
        [sys.executable, "-W", "error", str(RUNNER), str(page)],
        cwd=folder,
        env={**os.environ, **environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The blocks of a page run in order in one namespace, against real servers where it needs them."""
    environ = {}
    for need in needs_of(page):
        fixture, variable = SERVERS[need]
        environ[variable] = request.getfixturevalue(fixture).url
    done = run_page(page, tmp_path, **environ)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_that_is_not_run_says_why(page: Path) -> None:
    """``no-run`` comes with a reason."""
    for block in blocks_of(page.read_text("utf-8")):
        assert not block.note.startswith("no-run") or len(block.note.removeprefix("no-run:").strip()) > 10


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", "line 6"),
        ("```toml\n[nul.channels.c]\n```\n", "did you mean 'null'?"),
        ("```toml\n# a/b.toml\n[null.channels.c]\ncuont = 1\n```\n", "did you mean 'count'?"),
        ("```python\nprint(1)\n```\n<!-- output -->\n```text\n2\n```\n", "but the block above printed\n1"),
        ("<!-- refused -->\n```toml\n[null.channels.c]\n```\n", "was to be refused"),
    ],
    ids=["python", "toml", "toml file", "output", "refused"],
)
def test_a_page_that_is_wrong_is_found_out(page: str, expected: str, tmp_path: Path) -> None:
    """A block that fails, a configuration that is refused, and an output that differs each fail the page."""
    path = tmp_path / "page.md"
    path.write_text(page)
    done = run_page(path, tmp_path)
    assert done.returncode != 0
    assert expected in done.stderr


def test_blocks_of_a_page_share_files_and_names(tmp_path: Path) -> None:
    """A block that names a file is written to it, and the next ones can import it."""
    path = tmp_path / "page.md"
    path.write_text(
        "```python\n# shop/hooks.py\nN = 3\n```\n```python\nfrom shop.hooks import N\n```\n"
        "```python\nprint(N)\n```\n<!-- output -->\n```text\n3\n```\n"
    )
    assert run_page(path, tmp_path).returncode == 0
