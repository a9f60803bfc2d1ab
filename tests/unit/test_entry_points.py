"""Tests of the entry points of installed packages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rambla_py._internal.entry_points import entry_points

GROUP = "rambla.tests_of_entry_points"


def announce(folder: Path, name: str) -> None:
    """Install a package that has one entry point, its own name."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = json:loads\n")


def test_a_package_is_found_as_soon_as_it_is_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that is put on the path, and a package that is installed into it later."""
    assert dict(entry_points(GROUP)) == {}
    announce(tmp_path, "first")
    os.utime(tmp_path, (0, 0))  # a file system tells times apart only some milliseconds later
    monkeypatch.syspath_prepend(tmp_path)
    assert [*entry_points(GROUP)] == ["first"]
    announce(tmp_path, "second")
    assert {*entry_points(GROUP)} == {"first", "second"}
    monkeypatch.undo()
    assert dict(entry_points(GROUP)) == {}


def test_entry_points_are_read_once() -> None:
    """The next call returns the same mapping while nothing was installed."""
    assert entry_points(GROUP) is entry_points(GROUP)
