"""Every record about a target says which."""

from __future__ import annotations

import ast
from pathlib import Path

import rambla_py

PACKAGE = Path(rambla_py.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
WITHOUT_TARGET = {
    "runtime/timer.py": "the timer is of all targets",
    "runtime/tree.py": "the same",
    "runtime/supervision/external_servers.py": "a server's own functions do not know its channel",
}


def log_calls(path: Path) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LEVELS
        and ast.unparse(node.func.value) == "log"
    ]


def test_records_of_the_runtime_carry_their_target() -> None:
    """Each call has ``extra``, except where no target is concerned."""
    calls = {
        f"{path.relative_to(PACKAGE)}": log_calls(path)
        for path in sorted((PACKAGE / "runtime").rglob("*.py"))
    }
    assert sum(map(len, calls.values())) > 20
    without = [
        f"{path}:{call.lineno}"
        for path, found in calls.items()
        if path not in WITHOUT_TARGET
        for call in found
        if not any(keyword.arg == "extra" for keyword in call.keywords)
    ]
    assert without == []
