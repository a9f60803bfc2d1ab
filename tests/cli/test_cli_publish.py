"""Tests of ``rambla publish`` with the files that data engineers have."""

from __future__ import annotations

import gzip
import json
import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from test_cli import run

CONFIG = """
[file.connections.out]
path = "out.jsonl"
[file.connections.dead]
path = "dead.jsonl"
[file.channels.kept]
connection = "out"
[file.channels.dead]
connection = "dead"
options = { record = "full" }

[sql.connections.shop]
url = "sqlite:///shop.db"
[sql.channels.orders]
fallback = "dead"
[sql.channels.orders.options]
table = "orders"
columns = ["qty"]
retries = 0
[sql.channels.rows.options]
table = "orders"
columns = ["qty"]
retries = 0
[stub.channels.rows]

[redis.connections.nobody]
url = "redis://127.0.0.1:1/0"
[redis.channels.nobody]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration, and a database whose table refuses quantities below 1."""
    (tmp_path / "rambla.toml").write_text(CONFIG)
    base = sqlite3.connect(tmp_path / "shop.db")
    base.execute("create table orders (id text, qty int check (qty > 0))")
    base.commit()
    base.close()
    return tmp_path


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def quantities(folder: Path) -> list[int]:
    base = sqlite3.connect(folder / "shop.db")
    found = [row[0] for row in base.execute("select qty from orders order by qty")]
    base.close()
    return found


def write_rows(path: Path, *quantities: int) -> None:
    path.write_text("".join(json.dumps({"qty": quantity}) + "\n" for quantity in quantities))


@pytest.mark.parametrize(
    ("arguments", "data"),
    [
        (["-", "--format", "csv"], b"\xef\xbb\xbfid,n\n1,\n"),
        (["--from", "-", "--format", "tsv"], b"id\tn\n1\t\n"),
        (["--from", "/dev/stdin", "--delimiter", "tab"], b"id\tn\n1\t\n"),
        (["-", "--format", "csv", "--null", "NA"], gzip.compress(b"id,n\n1,NA\n", mtime=0)),
        (["-", "--format", "jsonl"], b'{"id": "1", "n": null}\n'),
        (["-", "--format", "json"], b'\xef\xbb\xbf[{"id": "1",\n "n": null}]'),
        (["-", "--format", "record"], b'{"id": "x", "payload": {"id": "1", "n": null}}'),
    ],
)
def test_every_format_comes_from_standard_input(folder: Path, arguments: list[str], data: bytes) -> None:
    """``--format`` names it; compression and a byte order mark are recognized."""
    done = run(folder, "publish", "kept", *arguments, given=data)
    assert done.returncode == 0, done.stderr
    assert lines_of(folder / "out.jsonl") == [{"id": "1", "n": None}]


@pytest.mark.parametrize("name", ["in.tsv", "in.tsv.gz", "in.TSV"])
def test_a_tsv_file_is_known_by_its_name(folder: Path, name: str) -> None:
    """Tabs separate its columns."""
    data = b"id\tn\n1\t5\n"
    (folder / name).write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)
    assert run(folder, "publish", "kept", "--from", name).returncode == 0
    assert lines_of(folder / "out.jsonl") == [{"id": "1", "n": "5"}]


@pytest.mark.parametrize(
    ("arguments", "data", "hint"),
    [
        (["kept", "-"], b'{"id": 1}\n{"id": 2}\n', "--lines"),
        (["kept", "in.jsonl"], b"", "--from"),
        (["--from", "in.jsonl"], b"", "give a CHANNEL"),
        (["kept", "--from", "in.jsonl", "--null", "NA"], b"", "--format csv"),
        (["kept", "1", "--rejects", "r.jsonl"], b"", "--skip and --rejects go with files"),
        (["kept", "--from", "in.jsonl", "--rejects", "in.jsonl"], b"", "the file that is read"),
        (["kept", "--from", "in.jsonl", "--rejects", "no/where"], b"", "No such file or directory"),
        (["file.kpt", "1"], b"", "nearest: 'file.kept'"),
    ],
)
def test_a_slip_sends_nothing_and_says_what_to_write(
    folder: Path, arguments: list[str], data: bytes, hint: str
) -> None:
    """Exit code 2, with the option that was meant."""
    write_rows(folder / "in.jsonl", 1, 2)
    done = run(folder, "publish", *arguments, given=data)
    assert (done.returncode, hint in done.stderr) == (2, True), done.stderr
    assert lines_of(folder / "out.jsonl") == []
    assert len(lines_of(folder / "in.jsonl")) == 2


def test_text_sends_what_looks_like_something_else(folder: Path) -> None:
    """The name of a file, and lines of JSON, as one string."""
    write_rows(folder / "in.jsonl", 1)
    assert run(folder, "publish", "kept", "in.jsonl", "--text").returncode == 0
    assert run(folder, "publish", "kept", "-", "--text", given=b"[1]\n[2]\n").returncode == 0
    assert lines_of(folder / "out.jsonl") == ["in.jsonl", "[1]\n[2]\n"]


def test_a_refused_row_has_its_line_and_comes_back_from_the_rejects(folder: Path) -> None:
    """File, line, target, reason and id on stderr; the record goes again to the target that refused it."""
    write_rows(folder / "in.jsonl", 1, -2, 3)
    with (folder / "in.jsonl").open("a") as file:
        file.write("oops\n")
    done = run(folder, "publish", "rows", "--from", "in.jsonl", "--rejects", "r.jsonl", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["refused_rows"], report["last_line"]) == (1, 2, 4)
    invalid, refused = sorted(lines_of(folder / "r.jsonl"), key=lambda record: "payload" in record)
    assert f"in.jsonl:2: sql.rows fatal: {refused['error']} (id {refused['id']})\n" in done.stderr
    assert (refused["file"], refused["line"], refused["origin"]["target"], refused["payload"]) == (
        "in.jsonl",
        2,
        "sql.rows",
        {"qty": -2},
    )
    assert (invalid["line"], invalid["raw"]) == (4, "oops")
    assert {row["line"]: row["status"] for row in report["refused"]} == {2: "fatal", 4: "invalid"}
    refused["payload"] = {"qty": 2}
    (folder / "r.jsonl").write_text(json.dumps(refused) + "\n")
    again = run(folder, "publish", "--from", "r.jsonl", "--format", "record", "--json")
    assert again.returncode == 0, again.stderr
    assert list(json.loads(again.stdout)["targets"]) == ["sql.rows"]
    assert quantities(folder) == [1, 2, 3]


def test_without_a_refused_row_there_is_no_file_of_rejects(folder: Path) -> None:
    """A file that is there keeps what it holds."""
    write_rows(folder / "in.jsonl", 1)
    (folder / "old.jsonl").write_text("old\n")
    for name in ("new.jsonl", "old.jsonl"):
        assert run(folder, "publish", "kept", "--from", "in.jsonl", "--rejects", name).returncode == 0
    assert not (folder / "new.jsonl").exists()
    assert (folder / "old.jsonl").read_text() == "old\n"


def test_a_dead_letter_goes_back_to_where_it_came_from(folder: Path) -> None:
    """The record of a fallback has origin, error and attempts, and is published again as it was."""
    write_rows(folder / "in.jsonl", -1)
    arguments = ["--option", "id=order-7", "--option", 'headers={"h": "1"}', "--option", "key=k"]
    assert run(folder, "publish", "orders", "--from", "in.jsonl", *arguments).returncode == 0
    (dead,) = lines_of(folder / "dead.jsonl")
    assert dead["origin"] == {"service": "sql", "channel": "orders", "target": "sql.orders"}
    assert (dead["status"], dead["attempts"]) == ("fatal", 1)
    assert "CHECK constraint" in dead["error"]
    again = run(folder, "publish", "--from", "dead.jsonl", "--format", "record")
    assert again.returncode == 0, again.stderr
    came, back = lines_of(folder / "dead.jsonl")
    assert {**came, "at": 0} == {**back, "at": 0}
    assert run(folder, "publish", "kept", "--from", "dead.jsonl", "--format", "record").returncode == 0
    assert lines_of(folder / "out.jsonl") == [{"qty": -1}] * 2


def test_without_format_record_a_line_is_a_payload(folder: Path) -> None:
    """Whatever keys it has."""
    record = {"id": "x", "origin": {"target": "sql.orders"}, "payload": 1}
    (folder / "in.jsonl").write_text(json.dumps(record))
    assert run(folder, "publish", "kept", "--from", "in.jsonl").returncode == 0
    assert lines_of(folder / "out.jsonl") == [record]


def test_a_file_may_go_to_a_channel_that_writes_it(folder: Path) -> None:
    """It is read up to its size at the start."""
    write_rows(folder / "out.jsonl", 1, 2)
    assert run(folder, "publish", "kept", "--from", "out.jsonl").returncode == 0
    assert [row["qty"] for row in lines_of(folder / "out.jsonl")] == [1, 2, 1, 2]


def test_a_run_that_ended_early_continues_with_skip(folder: Path) -> None:
    """The summary says how; the header of a CSV file is read all the same."""
    (folder / "in.csv").write_text('id,n\n1,a\n2,"b\nb"\n3\n4,d\n')
    done = run(folder, "publish", "kept", "--from", "in.csv", "--strict")
    assert done.stderr.splitlines()[-1].endswith("; to continue: --skip 4")
    (folder / "in.csv").write_text('id,n\n1,a\n2,"b\nb"\n3,c\n4,d\n')
    done = run(folder, "publish", "kept", "--from", "in.csv", "--skip", "4")
    assert done.stderr.splitlines()[-1].endswith("; last line 6")
    assert [row["id"] for row in lines_of(folder / "out.jsonl")] == ["1", "2", "3", "4"]


def test_a_channel_that_does_not_connect_fails_with_a_hint(folder: Path) -> None:
    """Nothing waits for --timeout; no line was delivered, and the run can be continued from the start."""
    write_rows(folder / "in.jsonl", *range(1, 50))
    done = run(folder, "publish", "nobody", "--from", "in.jsonl", "--connect-timeout", "0.5")
    assert done.returncode == 1
    error, hint, summary = done.stderr.splitlines()[-3:]
    assert error.startswith(
        "redis.nobody: not connected within --connect-timeout = 0.5: ConnectionLostError: "
    )
    assert hint == (
        "hint: is the server running at 127.0.0.1:1? Its address is in [redis.connections.nobody]"
    )
    assert summary.endswith("; stopped early; to continue: --skip 0")
    assert "dropped: not connected" not in done.stderr


def test_a_command_serves_no_operations_page(tmp_path: Path) -> None:
    """Its port is that of the service, with which it shares the configuration: nothing is said about it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        page = f"[rambla.web]\nenabled = true\nport = {port}\n"
        (tmp_path / "rambla.toml").write_text(
            f'{page}[file.connections.out]\npath = "out.jsonl"\n[file.channels.kept]\n'
        )
        done = run(tmp_path, "publish", "kept", "{}")
    assert (done.returncode, "operations page" in done.stderr) == (0, False)
    assert lines_of(tmp_path / "out.jsonl") == [{}]
