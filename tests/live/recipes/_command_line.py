"""``rambla publish``, sent SIGTERM while messages wait."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

from _witness import FOLDER, await_delivered, delivered, note, table

from rambla_py.testing.processes import deadline

_LINES = [f"line-{number}" for number in range(5_000)]


def publish_from_file(timeout_s: float, rate: str) -> None:
    """End ``rambla publish --from FILE`` in the midst of a file that it cannot hold as a whole."""
    path = FOLDER / "lines.jsonl"
    path.write_text("".join(f'{{"id": "{line}"}}\n' for line in _LINES))
    with _program("--from", str(path), "--timeout", str(timeout_s), rate=rate) as program:
        await_delivered(10)
        _end(program)


def publish_from_stdin(timeout_s: float, rate: str) -> None:
    """End ``rambla publish -`` while its standard input is open and says nothing more."""
    with _program("-", "--lines", "--timeout", str(timeout_s), rate=rate) as program:
        assert program.stdin is not None
        program.stdin.write("".join(f'{{"id": "{line}"}}\n' for line in _LINES[:40]))
        program.stdin.flush()
        await_delivered(10)
        _end(program)


def _program(*arguments: str, rate: str) -> subprocess.Popen[str]:
    config = FOLDER / "rambla.toml"
    config.write_text(_toml(table(rate, max_pending=50)))
    command = [sys.executable, "-m", "rambla_py", "publish", "orders", *arguments]
    command += ["--config", str(config), "--json"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _end(program: subprocess.Popen[str]) -> None:
    """Send SIGTERM, and note what the report says: how many were accepted, and how they ended."""
    program.send_signal(signal.SIGTERM)
    assert program.stdout is not None
    report = json.loads(program.stdout.read())
    for _ in deadline(20.0):
        if program.poll() is not None:
            break
    assert program.returncode == 128 + signal.SIGTERM, program.returncode
    counts = report["targets"]["file.orders"]
    written = set(delivered())
    accepted = _LINES[: counts["accepted"]]
    missing = [line for line in accepted if line not in written]
    for line in accepted:
        note("accepted", line)
    for line in missing[: counts["dropped"]]:
        note("outcomes", f"{line} dropped")
    for line in list(written)[: counts["ok"]]:
        note("outcomes", f"{line} ok")


def _toml(value: dict[str, Any]) -> str:
    """Return dotted keys for nested tables of plain values."""
    return "".join(f"{path} = {json.dumps(leaf)}\n" for path, leaf in _leaves(value))


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for key, inner in value.items() for leaf in _leaves(inner, f"{path}.{key}".lstrip("."))]
