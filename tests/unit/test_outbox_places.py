"""Where the file of an outbox may be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from rambla_py import OutboxError, Rambla
from rambla_py.outbox.sqlite.files import check_file_system, file_system_of


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "fuseblk", "9p", "virtiofs"])
def test_a_shared_file_system_is_refused(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """The error names it; ``allow_network_filesystem`` makes it a warning."""
    with pytest.raises(OutboxError, match=rf"network or shared file system \({kind}\): .* local disk"):
        check_file_system("o.db", kind, allow_network=False)
    with caplog.at_level(logging.WARNING):
        check_file_system("o.db", kind, allow_network=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert kind in caplog.text


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", None])
def test_a_local_file_system_is_not(kind: str | None) -> None:
    """Neither is one that the system does not name."""
    check_file_system("o.db", kind, allow_network=False)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="only Linux lists its mounts there")
def test_the_innermost_mount_decides() -> None:
    """A folder below it that does not exist yet, too."""
    assert file_system_of(Path("/proc/self")) == "proc"
    assert file_system_of(Path("/proc/sys/none/of/these")) == "proc"
    assert file_system_of(Path("/")) != "proc"


def _a_directory(folder: Path) -> Path:
    place = folder / "outbox.db"
    place.mkdir()
    return place


def _below_a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file" / "outbox.db"


def _not_writable(folder: Path) -> Path:
    return Path("/proc/outbox.db")


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (_a_directory, "this is a directory; the url must name a file"),
        (_below_a_file, "Not a directory|File exists"),
        (_not_writable, "No such file|denied|Read-only"),
    ],
)
def test_a_place_where_no_file_can_be(tmp_path: Path, place: Any, reason: str) -> None:
    """The start raises one error that names it; nothing is left running, and a better place works."""
    table = {
        "rambla": {"outbox": {"url": f"sqlite:///{place(tmp_path)}"}},
        "null": {"channels": {"orders": {"durable": True}}},
    }
    app = Rambla(table)
    for _ in range(2):
        with pytest.raises(OutboxError, match=rf"outbox.db: .*({reason})"):
            app.start()
    table["rambla"] = {"outbox": {"url": f"sqlite:///{tmp_path / 'other.db'}"}}
    with Rambla(table) as other:
        other.publish("orders", 1).result(5)
