"""A handler that forks: the worker, its connection and its message are the parent's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os, sys
from rambla_py import Handler, Rambla

PARENT = os.getpid()


def note(line):
    fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{line} {'parent' if os.getpid() == PARENT else 'child'}\\n".encode())
    os.close(fd)


class Forking(Handler):
    def connect(self):
        note("connect")
        return object()

    def handle_publish(self, message, options, state):
        child = os.fork() if message.payload == "fork" else None
        if child:
            note(f"child ended with {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")
        note(f"handled {message.payload}")
        return message.payload

    def close(self, connection):
        note("close")

    def on_outcome(self, outcome):
        note(f"outcome {outcome.status}")


with Rambla({"f": {"handler": Forking, "channels": {"orders": {}}, "connections": {"here": {}}}}) as app:
    results = [app.publish("orders", payload).result(timeout_s=20) for payload in ("one", "fork", "two")]
    assert results == ["one", "fork", "two"], results
    app.flush()
    audit = app.audit()["f.orders"]
assert audit.ok == audit.accepted == 3, audit
"""


def test_a_handler_that_forks_leaves_everything_to_the_parent(tmp_path: Path) -> None:
    """The child that comes back from the handler ends: it settles nothing, closes nothing, takes no other message."""
    log = tmp_path / "log"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(log)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    assert [line for line in lines if line.endswith(" child")] == ["handled fork child"]
    assert lines.count("outcome ok parent") == 3
    assert "child ended with 0 parent" in lines
    assert lines.count("connect parent") == 1
