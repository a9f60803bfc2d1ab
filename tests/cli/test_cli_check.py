"""``rambla check`` of a configuration with all sorts of trouble, as a person and as a program has it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.ports import free_port
from rambla_py.testing.servers import RedisServer

CANARY = "canary-hunter2"


@pytest.fixture
def folder(tmp_path: Path, redis_server: RedisServer, fault_proxy: Callable[..., FaultProxy]) -> Path:
    """A configuration of several services: some are well, others away, silent, closed to us, or misspelled."""
    silent, closed = fault_proxy(redis_server), free_port()
    silent.black_hole()
    (tmp_path / "rambla.toml").write_text(f"""
[redis.connections]
well = {{ url = "{redis_server.url}" }}
away = {{ host = "127.0.0.1", port = {closed} }}
silent = {{ host = "127.0.0.1", port = {silent.port} }}
intruder = {{ url = "redis://somebody:{CANARY}@127.0.0.1:{redis_server.port}/0" }}
nowhere = {{ host = "no-such-host.invalid" }}
alone = {{ cluster = ["127.0.0.1:{redis_server.port}"] }}
unwatched = {{ sentinels = ["127.0.0.1:{closed}"], master = "main" }}
[redis.channels]
well = {{ connection = "well" }}
away = {{ connection = "away" }}
silent = {{ connection = "silent" }}
intruder = {{ connection = "intruder" }}
nowhere = {{ connection = "nowhere" }}
alone = {{ connection = "alone" }}
unwatched = {{ connection = "unwatched" }}
off = {{ connection = "away", enabled = false }}

[amqp.connections.local]
url = "amqp://guest:{CANARY}@127.0.0.1:{closed}/%2F"
[amqp.channels.orders]
options = {{ routing_key = "x" }}

[null.channels.well]
""")
    return tmp_path


def check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``rambla check`` in a folder."""
    clean = {name: value for name, value in os.environ.items() if name != "RAMBLA_CONFIG"}
    return subprocess.run(
        [sys.executable, "-m", "rambla_py.cli", "check", "--timeout", "0.6", *arguments],
        cwd=folder,
        env=clean,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def without_its_driver(folder: Path) -> None:
    """Add a service whose extra is missing: a file in the working folder stands before the driver."""
    (folder / "sqlalchemy.py").write_text("raise ModuleNotFoundError(\"No module named 'sqlalchemy'\")\n")
    with (folder / "rambla.toml").open("a") as file:
        file.write('[sql.connections.shop]\nurl = "sqlite:///shop.db"\n[sql.channels.rows]\n')


TROUBLES = [
    ("redis.away", r"cannot connect to redis at 127\.0\.0\.1:\d+: .*refused", "is the server running at"),
    ("redis.silent", "no answer within 0.6 s", "check the address and firewalls"),
    ("redis.intruder", "WRONGPASS", r"the user name and the password in \[redis\.connections\.intruder\]"),
    ("redis.nowhere", "cannot connect to redis at no-such-host.invalid:6379", "the host is unknown"),
    ("redis.unwatched", "no sentinel returned the address of the master 'main'", "is the server running at"),
    ("amqp.orders", "cannot connect", r"Its address is in \[amqp\.connections\.local\]"),
]


def test_each_trouble_has_its_error_and_its_hint(folder: Path) -> None:
    """Three lines: which target, what was the matter, and where to look; no class names of ours."""
    done = check(folder)
    assert done.returncode == 1
    for target, error, hint in TROUBLES:
        found = re.search(rf"^failed  {target}\n        (.*)\n        hint: (.*)$", done.stdout, re.MULTILINE)
        assert found, done.stdout
        assert re.search(error, found[1]), found[0]
        assert re.search(hint, found[2]), found[0]
        assert not re.match(r"\w+Error", found[1]), found[0]


def test_what_is_well_and_what_is_off(folder: Path) -> None:
    """They have a line each among the failures, in the order of the file; the last line counts."""
    done = check(folder)
    lines = done.stdout.splitlines()
    order = [line.split()[1] for line in lines if re.match(r"(ok|off|failed) ", line)]
    assert order[0] == "redis.well"
    assert order[-3:] == ["redis.off", "amqp.orders", "null.well"]
    assert re.fullmatch(r"ok      redis\.well +[\d.]+ ms", lines[0])
    assert lines[-1] == "rambla.toml: 7 of 10 targets failed"
    assert CANARY not in done.stdout + done.stderr


def test_json_reports_the_same(folder: Path) -> None:
    """Each target with its status, error and advice, and no secret."""
    done = check(folder, "--json")
    report = {target["target"]: target for target in json.loads(done.stdout)["targets"]}
    assert [report[name]["status"] for name in ("redis.well", "redis.away", "redis.off")] == [
        "ok",
        "failed",
        "off",
    ]
    (problem,) = report["redis.intruder"]["problems"]
    assert problem["error"].startswith("AccessError: ")
    assert "[redis.connections.intruder]" in problem["advice"]
    assert report["redis.well"]["problems"] == report["redis.off"]["problems"] == []
    assert CANARY not in done.stdout + done.stderr


def test_all_are_asked_at_the_same_time(folder: Path) -> None:
    """A server that keeps silent holds up nobody: each answer has its own time."""
    report = json.loads(check(folder, "--json").stdout)["targets"]
    slow = [target["target"] for target in report if target["took_s"] > 0.5]
    assert slow == ["redis.silent"]


def test_a_missing_extra_does_not_hide_the_others(folder: Path) -> None:
    """It is a problem of the configuration, with the command that installs it; the others are asked anyway."""
    without_its_driver(folder)
    done = check(folder)
    assert done.returncode == 78
    assert "ok      redis.well" in done.stdout
    assert "hint: is the server running" in done.stdout
    summary = "rambla.toml: 1 problem in the configuration; 7 of the other 10 targets failed"
    assert done.stdout.splitlines()[-1] == summary
    assert "pip install 'rambla-py[sql]'" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_missing_extra_and_a_program(folder: Path) -> None:
    """The document has both: the problem, and how the others are; it is not ok."""
    without_its_driver(folder)
    done = check(folder, "well", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (78, False)
    assert [problem["path"] for problem in report["problems"]] == ["sql"]
    assert [target["target"] for target in report["targets"]] == ["redis.well", "null.well"]


def test_a_channel_of_the_service_that_cannot_be_used(folder: Path) -> None:
    """It does not count as an unknown channel: only the problem is reported."""
    without_its_driver(folder)
    done = check(folder, "rows")
    assert (done.returncode, done.stdout) == (78, "")
    assert "rambla-py[sql]" in done.stderr


def test_a_problem_that_concerns_all(folder: Path) -> None:
    """Where [rambla] itself is wrong nobody is asked: what the others would be set to is not known."""
    with (folder / "rambla.toml").open("a") as file:
        file.write('[rambla]\nexit_timeout_s = "soon"\n')
    done = check(folder)
    assert (done.returncode, done.stdout) == (78, "")
    assert "rambla.exit_timeout_s" in done.stderr


@pytest.mark.parametrize("command", ["check", "explain"])
def test_a_configuration_in_place_of_the_channel(folder: Path, command: str) -> None:
    """The error says how a file is passed."""
    done = subprocess.run(
        [sys.executable, "-m", "rambla_py.cli", command, "rambla.toml"],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "'rambla.toml' is a file, not a channel; pass it with --config rambla.toml" in done.stderr
