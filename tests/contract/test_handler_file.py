"""The handler that appends JSON lines to a file."""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from handler_case import Case, delivery
from hypothesis import given
from hypothesis import strategies as st

from rambla_py.errors import AccessError, SerializationError, UnavailableError
from rambla_py.handlers.file.append import Appender
from rambla_py.handlers.file.compression import compress
from rambla_py.handlers.file.errors import file_error
from rambla_py.handlers.file.handler import FileHandler
from rambla_py.handlers.file.rotation import Rotation

_CHILD = """
import sys, resource
from pathlib import Path
from handler_case import Case
from rambla_py.handlers.file import FileHandler
path, name, count, batch, limit = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
case = Case(FileHandler, settings=FileHandler.Connection(path=path), fsync="never",
            rotate_bytes=int(sys.argv[6]) or None)
for first in range(0, count, batch):
    answers = case.send(*({"by": name, "n": n, "pad": "x" * (n % 50)} for n in range(first, first + batch)))
    print(*(type(answer).__name__ for answer in answers), flush=True)
"""


def child(path: Path, name: str, *, count: int, batch: int, limit: int = 0, rotate: int = 0) -> Any:
    """Start a process of its own that appends to the file and prints what each message came to."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    numbers = map(str, (count, batch, limit, rotate))
    command = [sys.executable, "-c", _CHILD, str(path), name, *numbers]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)


def case_of(path: Path, **options: Any) -> Case:
    return Case(
        FileHandler, settings=FileHandler.Connection(path=str(path)), **({"fsync": "never"} | options)
    )


def lines_of(*paths: Path) -> list[Any]:
    """Read every line; a cut one fails the test."""
    found = []
    for path in paths:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        assert data.endswith(b"\n") or not data
        found += [json.loads(line) for line in data.splitlines()]
    return found


def aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.*Z.*"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "flights.jsonl"


def test_a_line_is_the_payload(path: Path) -> None:
    """What comes as JSON lines goes out as the same JSON lines."""
    rows = [{"carrier": "UA", "tail": None}, {"carrier": "B6", "at": 1.5}]
    assert case_of(path).send(*rows) == [None, None]
    assert path.read_bytes() == b'{"carrier":"UA","tail":null}\n{"carrier":"B6","at":1.5}\n'


def test_text_with_line_breaks_stays_one_line(path: Path) -> None:
    """Text and bytes become JSON strings."""
    case_of(path).send("two\nlines", b"\xc3\xa9")
    assert lines_of(path) == ["two\nlines", "é"]


def test_format_object_embeds_the_json_in_text(path: Path) -> None:
    """Text that holds JSON over several lines becomes an object on one."""
    case_of(path).send('{\n "a": 1\n}', "plain", format="object")
    assert lines_of(path) == [{"a": 1}, {"value": "plain"}]


def test_full_has_the_message_around_the_payload(path: Path) -> None:
    """``record = "full"`` keeps id, channel, time, key and headers."""
    case = case_of(path, record="full")
    sent = delivery({"a": 1}, options=case.options, key="k", headers={"h": "1"}, takes="json")
    case.send(sent)
    (line,) = lines_of(path)
    assert line.pop("at") > 1_700_000_000
    assert line == {
        "id": sent.id,
        "channel": "orders",
        "service": "svc",
        "key": "k",
        "headers": {"h": "1"},
        "payload": {"a": 1},
    }


@pytest.mark.parametrize("poison", [object(), b"\xff", {"a": "\ud800"}])
def test_one_bad_payload_fails_alone(path: Path, poison: Any) -> None:
    """What cannot be written is fatal for itself, and its neighbours are written."""
    first, bad, last = case_of(path).send(1, poison, 2)
    assert (first, type(bad), last) == (None, SerializationError, None)
    assert lines_of(path) == [1, 2]


def test_a_batch_is_moved_aside_where_the_file_is_full(path: Path) -> None:
    """No file grows over ``rotate_bytes``, and no line is lost or cut."""
    case_of(path, rotate_bytes=100).send(*({"n": n} for n in range(50)))
    files = [*aside(path), path]
    assert len(files) > 4
    assert all(file.stat().st_size <= 100 for file in files)
    assert [line["n"] for line in lines_of(*files)] == list(range(50))


def test_a_line_larger_than_the_limit_has_a_file_to_itself(path: Path) -> None:
    """A limit does not refuse a message."""
    case_of(path, rotate_bytes=10).send(1, "x" * 50, 2)
    assert [lines_of(file) for file in [*aside(path), path]] == [[1], ["x" * 50], [2]]


def test_age_counts_from_the_first_line_over_restarts(path: Path) -> None:
    """A file is moved aside when its first line is old enough, regardless of the process that wrote it; later lines do not count."""
    now = 1_700_000_000.0

    def appender() -> Appender:
        made = Appender(path, rotation=Rotation(rotate_s=60), fsync="never", clock=lambda: now)
        made.check()
        return made

    appender().append([b"1\n"])
    now += 59
    appender().append([b"2\n"])
    assert aside(path) == []
    now += 1
    appender().append([b"3\n"])
    assert [file.name for file in aside(path)] == ["flights.20231114T221420Z.0001.jsonl"]
    assert lines_of(*aside(path)) == [1, 2]
    assert lines_of(path) == [3]
    now += 59
    appender().append([b"4\n"])
    assert lines_of(path) == [3, 4]


def test_what_was_moved_aside_is_compressed(path: Path) -> None:
    """``close`` waits for the compression; the text is the same and the modes too."""
    case = case_of(path, rotate_bytes=40, compression="gzip")
    case.send(*range(100))
    case.close()
    files = aside(path)
    assert {file.suffix for file in files} == {".gz"}
    assert lines_of(*files, path) == list(range(100))
    assert stat.S_IMODE(files[0].stat().st_mode) == stat.S_IMODE(path.stat().st_mode)


def test_what_an_earlier_run_left_is_compressed(path: Path) -> None:
    """A file whose compression was cut short is compressed by the next ``connect``; others are left alone."""
    case_of(path, rotate_bytes=10).send("first", "second")
    (left,) = aside(path)
    Path(f"{left}.gz.tmp").write_bytes(b"half a gzip file")
    foreign = path.with_name("flights.old.jsonl")
    foreign.write_text("mine\n")
    case_of(path, rotate_bytes=10, compression="gzip").close()
    assert lines_of(Path(f"{left}.gz")) == ["first"]
    assert sorted(file.name for file in path.parent.iterdir()) == sorted(
        [f"{left.name}.gz", "flights.jsonl", "flights.old.jsonl"]
    )


def test_a_file_that_is_gone_is_not_compressed(tmp_path: Path) -> None:
    """Two processes may try to rotate the same file: the second finds it done."""
    compress(tmp_path / "gone.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_others_moved_away_is_created_again(path: Path) -> None:
    """After logrotate, lines go to the new file."""
    case = case_of(path)
    case.send(1)
    path.rename(path.with_suffix(".1"))
    case.send(2)
    assert (lines_of(path.with_suffix(".1")), lines_of(path)) == ([1], [2])


def test_a_cut_line_of_a_killed_process_spoils_no_other(path: Path) -> None:
    """What a dead writer left unfinished is ended before the next line."""
    path.parent.mkdir()
    path.write_bytes(b'{"a":1}\n{"b":')
    case = case_of(path)
    case.send({"c": 1})
    assert path.read_bytes() == b'{"a":1}\n{"b":\n{"c":1}\n'


def test_processes_share_a_file_and_its_rotation(path: Path) -> None:
    """Two processes append and rotate at once: every line is there once, whole, in its writer's order."""
    writers = {name: child(path, name, count=5000, batch=5, rotate=2_000) for name in "ab"}
    answers = {name: writer.communicate(timeout=60)[0] for name, writer in writers.items()}
    assert {word for text in answers.values() for word in text.split()} == {"NoneType"}
    files = [*aside(path), path]
    assert len(files) > 100
    # A line that went into a file after it was moved aside would make it too large.
    assert all(file.stat().st_size <= 2_000 for file in files)
    lines = lines_of(*files)
    for name in "ab":
        assert [line["n"] for line in lines if line["by"] == name] == list(range(5000))


def test_a_writer_that_waited_for_a_rotation_writes_to_the_new_file(path: Path) -> None:
    """A writer that opened the file before it was rotated, and got its lock afterwards, does not append."""
    path.parent.mkdir()
    path.touch()
    case = case_of(path)
    rotated = path.with_suffix(".1")
    with path.open("rb") as held, ThreadPoolExecutor(1) as pool:
        fcntl.flock(held, fcntl.LOCK_EX)
        sending = pool.submit(case.send, 1)
        wait_until_someone_waits_for(os.fstat(held.fileno()).st_ino)
        path.rename(rotated)
        fcntl.flock(held, fcntl.LOCK_UN)
        assert sending.result(timeout=10) == [None]
    assert (rotated.read_bytes(), lines_of(path)) == (b"", [1])


def wait_until_someone_waits_for(inode: int) -> None:
    """Return when the system lists somebody as waiting for the lock of a file."""
    pause, deadline = threading.Event(), time.monotonic() + 10
    while not re.search(rf"->.*:{inode} ", Path("/proc/locks").read_text()):
        assert time.monotonic() < deadline, "nobody waits for the lock"
        pause.wait(0.002)


def test_workers_share_a_file(path: Path) -> None:
    """Threads of one process are kept apart as processes are."""
    cases = [case_of(path, rotate_bytes=5_000) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for first in range(0, 400, 10):
            pool.submit(cases[first % 4].send, *range(first, first + 10))
    assert sorted(lines_of(*aside(path), path)) == list(range(400))


def test_where_no_byte_more_fits_no_half_line_stays(path: Path) -> None:
    """At the limit whole lines are delivered, the rest fails, can be retried, and leaves no trace."""
    writer = child(path, "a", count=60, batch=30, limit=1000)
    first, second = (line.split() for line in writer.communicate(timeout=60)[0].splitlines())
    assert writer.returncode == 0
    delivered = first.count("NoneType")
    assert 0 < delivered < 30
    assert first == ["NoneType"] * delivered + ["UnavailableError"] * (30 - delivered)
    assert second[0] in ("NoneType", "UnavailableError")
    assert [line["n"] for line in lines_of(path)] == [
        n for n, word in enumerate(first + second) if word == "NoneType"
    ]


def test_a_full_disk_makes_the_target_unavailable() -> None:
    """Messages wait for space; no retry is used up."""
    error = file_error(OSError(28, "No space left on device"))
    assert isinstance(error, UnavailableError)
    assert error.retryable


@pytest.mark.parametrize("kind", ["folder", "fifo", "below a file"])
def test_a_path_that_cannot_be_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    """``connect`` says at once, without hanging, that a person must act."""
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("")
        path /= "y"
    with pytest.raises(AccessError, match=str(tmp_path / "x")):
        case_of(path)


def test_a_folder_that_went_is_made_again(path: Path) -> None:
    """Somebody removes the folder while the handler runs: the next line is in a new one."""
    case = case_of(path)
    case.send(1)
    path.unlink()
    path.parent.rmdir()
    assert case.send(2) == [None]
    assert lines_of(path) == [2]


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_check_leaves_nothing_behind(path: Path, compression: str) -> None:
    """``connect`` and ``ping`` make no file, and no folder; the first line does."""
    case = case_of(path, compression=compression)
    case.handler.ping(case.connection)
    case.close()
    assert not path.parent.exists()


def test_a_folder_that_may_not_be_written() -> None:
    """``connect`` says so, though it makes nothing itself."""
    mine = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        if mine == 0:  # who may do anything
            os.seteuid(65_534)
        try:
            with pytest.raises(AccessError, match=folder):
                case_of(Path(folder) / "new" / "x.jsonl")
        finally:
            os.seteuid(mine)


@pytest.mark.parametrize("fsync", ["always", "batch"])
def test_every_fsync_policy_writes_the_same(path: Path, fsync: str) -> None:
    """The policy says when the disk is waited for, not what is written."""
    assert case_of(path, fsync=fsync, rotate_bytes=30).send(*range(40)) == [None] * 40
    assert lines_of(*aside(path), path) == list(range(40))


def test_the_tables_are_checked() -> None:
    """What a configuration says wrong about the file is refused, and what it says right is converted."""
    options = msgspec.convert(
        {"rotate_bytes": 10, "rotate_s": 1.5, "compression": "gzip"}, FileHandler.Options
    )
    assert (options.rotate_bytes, options.rotate_s) == (10, 1.5)
    for wrong in ({"rotate_bytes": 0}, {"rotate_s": 0}, {"fsync": "sometimes"}, {"rotate": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, FileHandler.Options)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"path": ""}, FileHandler.Connection)


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=30), st.integers(1, 60))
def test_room_is_as_much_as_fits(lines: list[bytes], limit: int) -> None:
    """The lines taken fit, one more would not, and there is always one."""
    count = Rotation(rotate_bytes=limit).room_for(lines, 0)
    assert count >= 1
    assert count == 1 or sum(map(len, lines[:count])) <= limit
    assert count == len(lines) or sum(map(len, lines[: count + 1])) > limit
