"""Dead letters of a running app with an outbox in PostgreSQL, and the commands about it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from outbox_databases import Database
from outboxes import NAME, Backend, running, table_of
from waiting import wait_until

from rambla_py import PermanentError

PROGRAM = [sys.executable, "-m", "rambla_py.cli"]


@pytest.fixture
def url(empty_postgres: Database) -> str:
    return empty_postgres.url


def rambla(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return done


def test_a_replay_is_delivered_by_the_running_app(tmp_path: Path, url: str) -> None:
    """With and without a key; each keeps its id, and the accounts of all relays add up."""
    backend = Backend()
    backend.answers = [PermanentError("no"), PermanentError("no")]
    with running(table_of(tmp_path, backend.handler(), {"url": url, "poll_s": 0.1})) as app:
        for key in (None, "k"):
            assert app.publish("orders", {"key": key}, key=key).outcomes(timeout_s=10)[0].status == "fatal"
        wait_until(lambda: len(list(app.outbox.dead())) == 2)
        dead = [letter.id for letter in app.outbox.dead()]
        result = app.outbox.replay(everything=True)
        assert (result.selected, result.replayed) == (2, 2)
        wait_until(lambda: app.audit()[NAME].ok == 2)
        assert sorted(backend.ids[2:]) == sorted(dead)
        wait_until(lambda: app.outbox.audit().targets[NAME].ok == 2)
        account = app.outbox.audit().targets[NAME]
        assert (account.accepted, account.fatal, account.dead, account.replayed) == (4, 2, 0, 2)
        assert account.difference == 0


CONFIG = """
[rambla.outbox]
url = "{url}"
poll_s = 0.1
[rambla.options]
retries = 0
[stub.connections.one]
[stub.channels.orders]
connection = "one"
durable = true
options = {{ error = "no queue for 'paid'" }}
[file.connections.one]
path = "out"
[file.channels.spare]
connection = "one"
durable = true
"""


def test_the_commands(tmp_path: Path, url: str) -> None:
    """``dead``, ``audit``, ``outbox`` and ``replay`` work as on a file, and show no password."""
    (tmp_path / "rambla.toml").write_text(CONFIG.format(url=url))
    assert rambla(tmp_path, "outbox", "init").returncode == 0
    assert "CREATE TABLE rambla_message" in rambla(tmp_path, "outbox", "init", "--sql").stdout
    assert rambla(tmp_path, "publish", "orders", '{"id": 1}').returncode == 1
    listed: Any = json.loads(rambla(tmp_path, "dead", "list", "--letters", "--json").stdout)
    assert (listed["total"], listed["letters"][0]["payload"]) == (1, {"id": 1})
    status = rambla(tmp_path, "outbox", "status")
    assert ": 0 kept; 1 dead; " in status.stdout
    assert "***" in status.stdout
    assert rambla(tmp_path, "audit").returncode == 0
    done = rambla(tmp_path, "dead", "replay", "--all", "--yes", "--to", "spare")
    assert (done.returncode, done.stdout) == (0, "1 selected, 1 replayed; 1 delivered\n"), done.stderr
    assert (tmp_path / "out").read_text() == '{"id":1}\n'
    again = rambla(tmp_path, "dead", "replay", listed["letters"][0]["id"], "--yes")
    assert "already replayed" in again.stderr
