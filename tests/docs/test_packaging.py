"""What a package index shows of the package, and that its version is one."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from typing import Any

import pytest
from pages import ROOT, links_of

import rambla_py

if os.environ.get("CI") != "true":
    pytest.importorskip("hatchling")

from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from package_readme import without_relative_links


@pytest.fixture(scope="module")
def metadata() -> Any:
    """The table ``[project]`` as hatchling completes it."""
    return ProjectMetadata(str(ROOT), PluginManager()).core


def test_the_version_has_one_source(metadata: Any) -> None:
    """``__version__`` is that of the archives; pyproject.toml has none."""
    assert metadata.version == rambla_py.__version__
    assert "version" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_newest_changes_are_those_of_this_version() -> None:
    """A development version is a heading without a date, a release one with a date."""
    heading = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert heading is not None
    release, development, _ = rambla_py.__version__.partition(".dev")
    assert re.fullmatch(
        rf"{re.escape(release)}, " + ("unreleased" if development else r"\d{4}-\d\d-\d\d"), heading[1]
    )


def test_links_of_the_readme_do_not_break_on_a_package_index(metadata: Any) -> None:
    """It has the text of the README, with no link or picture that leads into the repository."""
    assert metadata.readme_content_type == "text/markdown"
    assert re.findall(r"\]\((?!https?://)", metadata.readme) == []
    assert len(links_of((ROOT / "README.md").read_text("utf-8"))) > 29
    for words in ("First steps, without a server", "a SQLite file or a PostgreSQL database", "the outbox"):
        assert words in metadata.readme


def test_blocks_and_other_links_of_a_page_stay() -> None:
    """Code that looks like a link is not one."""
    page = "[a](b.md) [c](https://example.org)\n\n![d](e.png)\n\n```python\nf[0](g)\n```\n[h](#i)\n"
    shown = "a [c](https://example.org)\n\n```python\nf[0](g)\n```\nh\n"
    assert without_relative_links(page) == shown


def test_classifiers(metadata: Any) -> None:
    """Where it runs: what the tests run on."""
    assert [one for one in metadata.classifiers if one.startswith("Operating")] == [
        "Operating System :: POSIX :: Linux"
    ]


def test_an_interpreter_that_is_missing_is_named() -> None:
    """``make dist`` does not pass with fewer interpreters than it promises."""
    done = subprocess.run(
        [str(ROOT / "scripts/interpreters.sh"), "3.99"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Python 3.99 is needed" in done.stderr
