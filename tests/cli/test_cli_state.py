"""``rambla state get|set|list|delete|cleanup``: the real program, in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import forked_program
import pytest

from rambla_py.state import SqliteStore, generate_key
from rambla_py.testing import StateServer

PROGRAM = [sys.executable, "-m", "rambla_py.cli", "state"]
CANARY = "canary-hunter2"
CONFIG = """
[state.connections.main]
url = "sqlite:///configured.db"
[state.connections.cache]
url = "file://./cache"
[state.channels.carts]
connection = "main"
"""


def run(
    folder: Path, *arguments: str, text: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    done = forked_program.PROGRAM.run(
        folder, ["state", *arguments], {**os.environ, **environment}, text.encode()
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_record_is_set_read_listed_and_removed(tmp_path: Path) -> None:
    """Data goes to stdout; the default store is ``state.db``; numbers keep their digits."""
    number = '{"n":1.000000000000000000001}'
    assert run(tmp_path, "set", "cart:a", number, "--expires", "60").stdout == ""
    assert run(tmp_path, "set", "cart:b", "-", text="[1]").returncode == 0
    assert run(tmp_path, "get", "cart:a").stdout == number + "\n"
    record = json.loads(run(tmp_path, "get", "cart:a", "--json").stdout)
    assert record["expires_at"] == pytest.approx(record["updated_at"] + 60)
    listed = run(tmp_path, "list", "cart:").stdout
    assert [line.split()[0] for line in listed.splitlines() if line.startswith("cart")] == [
        "cart:a",
        "cart:b",
    ]
    assert [each["key"] for each in json.loads(run(tmp_path, "list", "--json").stdout)] == [
        "cart:a",
        "cart:b",
    ]
    assert json.loads(run(tmp_path, "delete", "cart:a", "--json").stdout) == {"removed": 1}
    assert "removed 1 record" in run(tmp_path, "delete", "--prefix", "").stderr
    assert run(tmp_path, "list").stdout == ""


def test_what_is_not_there_and_what_conflicts_ends_with_one(tmp_path: Path) -> None:
    """A missing record, an existing one with ``--if-absent``, an old version; nothing is changed."""
    old = json.loads(run(tmp_path, "set", "a", "1", "--json").stdout)["version"]
    new = json.loads(run(tmp_path, "set", "a", "2", "--if-version", old, "--json").stdout)["version"]
    for arguments, reason in [
        (["get", "zz"], "there is no record 'zz'"),
        (["delete", "zz"], "there is no record 'zz'"),
        (["set", "a", "3", "--if-absent"], "it exists already"),
        (["set", "a", "3", "--if-version", old], "was set since that version was read"),
        (["delete", "a", "--if-version", old], "was set since that version was read"),
    ]:
        done = run(tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert reason in done.stderr
    assert run(tmp_path, "get", "a").stdout == "2\n"
    assert run(tmp_path, "delete", "a", "--if-version", new).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["set", "a", "dark"], "use --text"),
        (["set", "a"], "VALUE"),
        (["delete"], "give either keys or --prefix"),
        (["delete", "a", "--prefix", "b"], "give either keys or --prefix"),
        (["delete", "a", "b", "--if-version", "x"], "it is for one key"),
        (["get", "a", "--url", f"postgres://u:{CANARY}@h/db"], "a url that is none of memory://name"),
        (["get", "a", "--url", f"redis://u:{CANARY}/x@h/0"], "url"),
        (["get", "a", "--store", "rambla_py:Nothing"], "has no 'Nothing'"),
        (["get", "a", "--url", "memory://", "--connection", "main"], "give either --url or --connection"),
        (["get", "a", "--connection", "other"], "the configuration has state.main, state.cache"),
        (["get", "a", "--config", "rambla.toml"], "several are meant"),
    ],
)
def test_wrong_usage_ends_with_two(arguments: list[str], reason: str, tmp_path: Path) -> None:
    """With what to do, and without a password."""
    (tmp_path / "rambla.toml").write_text(CONFIG)
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in " ".join(done.stderr.split())
    assert CANARY not in done.stderr


def test_a_store_that_cannot_be_reached_ends_with_one(tmp_path: Path) -> None:
    """The store is named, and its password is not."""
    done = run(tmp_path, "get", "a", "--url", f"redis://u:{CANARY}@127.0.0.1:1/0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "redis at 127.0.0.1:1/0" in done.stderr
    assert CANARY not in done.stderr


def test_the_store_of_a_connection_is_used(tmp_path: Path) -> None:
    """By the name of the connection, with or without its service."""
    (tmp_path / "rambla.toml").write_text(CONFIG)
    for name in ("main", "state.main"):
        assert run(tmp_path, "set", name, "1", "--connection", name).returncode == 0
    assert run(tmp_path, "set", "c", "1", "--connection", "cache").returncode == 0
    with SqliteStore(tmp_path / "configured.db") as store:
        assert [record.key for record in store.get_all()] == ["main", "state.main"]
    assert len(list((tmp_path / "cache").glob("c-*.json"))) == 1


def test_a_value_is_encrypted_by_the_environment(tmp_path: Path) -> None:
    """``$RAMBLA_STATE_KEY``; without it the value is the encrypted one."""
    key = generate_key()
    run(tmp_path, "set", "a", CANARY, "--text", RAMBLA_STATE_KEY=key)
    assert CANARY not in run(tmp_path, "get", "a").stdout
    assert run(tmp_path, "get", "a", RAMBLA_STATE_KEY=key).stdout == f'"{CANARY}"\n'
    done = run(tmp_path, "get", "a", RAMBLA_STATE_KEY=generate_key())
    assert done.returncode == 1
    assert "cannot be decrypted" in done.stderr


def test_a_server_is_read_with_the_token_of_the_environment(tmp_path: Path) -> None:
    """``$RAMBLA_STATE_TOKEN``; a wrong one is refused, and shown nowhere."""
    with StateServer(token="s3cret") as server:
        assert (
            run(tmp_path, "set", "a", "1", "--url", server.url, RAMBLA_STATE_TOKEN="s3cret").returncode == 0
        )
        done = run(tmp_path, "get", "a", "--url", server.url, RAMBLA_STATE_TOKEN=CANARY)
        assert done.returncode == 1
        assert CANARY not in done.stderr


def test_cleanup_removes_expired_records(tmp_path: Path) -> None:
    """Of a prefix, or all; the number is reported."""
    run(tmp_path, "set", "a:1", "1", "--expires", "0.001")
    run(tmp_path, "set", "b:1", "1", "--expires", "0.001")
    assert json.loads(run(tmp_path, "cleanup", "--prefix", "a:", "--json").stdout) == {"removed": 1}
    assert "removed 1 expired record" in run(tmp_path, "cleanup").stderr


def test_control_characters_reach_no_terminal(tmp_path: Path) -> None:
    """Of keys and of values in a list."""
    run(tmp_path, "set", "a\x1b[2J\n\x9b", "\x1b[31m\x9b", "--text")
    listed = run(tmp_path, "list").stdout
    assert "a\\x1b[2J\\n\\x9b" in listed
    assert not {"\x1b", "\x9b"} & set(listed)
