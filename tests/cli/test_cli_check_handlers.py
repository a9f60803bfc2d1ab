"""`rambla check` starts external servers, and looks at child specs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rambla_py import ChildSpec, Command
from rambla_py.cli.handler_checks import server_problems

MODULE = """
import os, rambla_py as rambla

class Served(rambla.Handler):
    def external_servers(self, channel):
        return [rambla.ChildSpec("broker", lambda: open("running", "w"), stop=lambda file: os.remove("running"))]
    def ping(self, connection):
        assert os.path.exists("running") and self.servers["broker"].name == "running"
    def handle_publish(self, message, options, state): ...

class Missing(Served):
    def external_servers(self, channel):
        return [rambla.Command(["no-such-program"], ready="tcp://127.0.0.1:1")]

class Dying(Served):
    def external_servers(self, channel):
        return [rambla.ChildSpec("broker", lambda: 1 / 0)]
"""


def test_check_starts_servers(tmp_path: Path) -> None:
    """Servers run during the ping and are stopped after it; each fault is the error of its target."""
    (tmp_path / "own.py").write_text(MODULE)
    (tmp_path / "rambla.toml").write_text(
        "".join(
            f'[{name.lower()}]\nhandler = "own:{name}"\n[{name.lower()}.channels.o]\n'
            for name in ("Served", "Missing", "Dying")
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "rambla_py", "check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(tmp_path), "COLUMNS": "300", "PATH": "/usr/bin:/bin"},
        check=False,
    )
    said = done.stdout
    assert done.returncode == 1, done.stderr
    assert "ok      served.o" in said
    assert "no program 'no-such-program' in PATH; install it" in said
    assert "external server 'broker' did not start: ZeroDivisionError" in said
    assert "2 of 3 targets failed" in said
    assert not (tmp_path / "running").exists()


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (ChildSpec("a", start="x"), "start must be callable"),  # type: ignore[arg-type]
        (ChildSpec("a", start=list, stop=1), "stop must be callable"),  # type: ignore[arg-type]
        (Command([]), "argv must be a list"),
        (Command("redis-server"), "argv must be a list"),
        (Command([sys.executable], cwd="/no/such/folder"), "no folder '/no/such/folder'"),
        (Command([sys.executable], ready="localhost:1"), "ready must be"),
        (Command([sys.executable], ready_timeout_s=0), "ready_timeout_s must be more than 0"),
    ],
)
def test_a_child_spec_that_cannot_work_is_named(server: Any, words: str) -> None:
    """Without starting it."""
    (problem,) = server_problems(server)
    assert words in problem
