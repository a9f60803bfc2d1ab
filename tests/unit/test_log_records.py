"""Log records name the target that they are about."""

from __future__ import annotations

import ast
from pathlib import Path

import rambla_py

PACKAGE = Path(rambla_py.__file__).parent
FOLDERS = ("runtime", "handlers", "telemetry", "outbox")

# What is about no target: the outbox as a whole, the app, the process.
ABOUT_NO_TARGET = {
    "outbox/keeper.py",
    "outbox/letter_box.py",
    "outbox/log_watch.py",
    "outbox/outbox.py",
    "outbox/postgres/journal.py",
    "outbox/postgres/leases.py",
    "outbox/postgres/listener.py",
    "outbox/sqlite/files.py",
    "runtime/timer.py",
    "telemetry/metrics.py",
    "telemetry/observers.py",
    "telemetry/otel/meters.py",
}


def test_every_record_about_a_target_has_its_service_and_channel() -> None:
    """Each call of a logger passes ``extra``, debug records aside."""
    without = {
        path.relative_to(PACKAGE).as_posix()
        for folder in FOLDERS
        for path in (PACKAGE / folder).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("info", "warning", "error", "exception")
        and ast.unparse(call.func.value) == "log"
        and not any(keyword.arg == "extra" for keyword in call.keywords)
    }
    assert without <= ABOUT_NO_TARGET, without - ABOUT_NO_TARGET
    assert without == ABOUT_NO_TARGET, f"not needed any more: {ABOUT_NO_TARGET - without}"
