"""Break the outbox in a copy of the repository, one way at a time: a named test must turn red each time.

A mutant that survives, a test that is red without one, and a change that no longer fits the code fail the
script. With names as arguments, only those mutants are tried.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rambla_py.testing.processes import end_group

ROOT = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 400


class Mutant(NamedTuple):
    """Replacements in files, by path and text, and the tests of which one must fail."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


_OUTBOX, _SQLITE = "rambla_py/outbox", "rambla_py/outbox/sqlite"
_KILLED = "tests/outbox/test_killed.py"

MUTANTS = (
    Mutant(
        "without fsync",
        ((f"{_SQLITE}/connection.py", "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"),),
        ("tests/outbox/test_fsync.py",),
    ),
    Mutant(
        "without waiting for the confirm",
        (
            (
                "rambla_py/handlers/amqp/connection.py",
                "confirm, confirms = self._options.confirm, self._confirms",
                "confirm, confirms = False, self._confirms",
            ),
        ),
        ("tests/live/test_faults_under_load.py", "-k", "killed and amqp"),
    ),
    Mutant(
        "with locks that a forked child inherits",
        (
            (f"{_SQLITE}/owners.py", "fcntl.lockf(", "fcntl.flock("),
            (f"{_SQLITE}/owners.py", "os.register_at_fork(after_in_child=_start_over)\n", ""),
        ),
        (_KILLED, "-k", "forked_child"),
    ),
    Mutant(
        "without the token of a lease",
        ((f"{_OUTBOX}/postgres/writing.py", " AND bucket.token = given.token", ""),),
        ("tests/live/test_outbox_postgres.py", "-k", "former_relay or dead_letter_either"),
    ),
    Mutant(
        "removal before the answer",
        (
            (
                f"{_OUTBOX}/outbox.py",
                "            feed.target.admission.admit(delivery)\n",
                '            self.pending.end([(row, "ok")])\n'
                "            feed.target.admission.admit(delivery)\n",
            ),
        ),
        (_KILLED, "-k", "random_moments"),
    ),
    Mutant(
        "sequence reused",
        (
            (
                f"{_SQLITE}/tables.py",
                "CREATE TABLE rambla_message (\n    seq INTEGER PRIMARY KEY AUTOINCREMENT",
                "CREATE TABLE rambla_message (\n    seq INTEGER PRIMARY KEY",
            ),
        ),
        ("tests/outbox/test_outbox_model.py", "tests/outbox/test_durable_publish.py"),
    ),
    Mutant(
        "hand-over forgotten",
        ((f"{_OUTBOX}/writer.py", "            self._writer._let_go()\n", "            pass\n"),),
        ("tests/unit/test_outbox_writer.py", "-k", "each_item_once or whole_group"),
    ),
    Mutant(
        "the next writer is not woken",
        (
            (
                f"{_OUTBOX}/writer.py",
                "        self._holder.pop(_ROLE, None)\n        self._wake_next()\n",
                "        self._holder.pop(_ROLE, None)\n",
            ),
        ),
        ("tests/unit/test_outbox_writer.py", "-k", "whole_group or others_of_an"),
    ),
    Mutant(
        "what an interrupted commit stored is forgotten",
        ((f"{_OUTBOX}/outbox.py", "if not admitted and self._is_stored(row):", "if False:"),),
        ("tests/outbox/test_interrupted_publish.py", "-k", "exception_at_every_point"),
    ),
    Mutant(
        "the journal's file is opened beside SQLite",
        (
            (
                f"{_SQLITE}/files.py",
                "    check_file_system(name, ",
                "    path.exists() and path.read_bytes()\n    check_file_system(name, ",
            ),
        ),
        ("tests/outbox/test_one_file.py", "-k", "second_connection"),
    ),
    Mutant(
        "a deadly message is not tried alone",
        ((f"{_OUTBOX}/feed.py", "if source.crashes(row) >= ALONE_AFTER:", "if False:"),),
        (_KILLED, "-k", "kills_its_process"),
    ),
    Mutant(
        "publishers are not refused after a stop",
        ((f"{_OUTBOX}/outbox.py", 'raise NotRunningError("stopped")', "pass"),),
        ("tests/outbox/test_interrupted_publish.py", "-k", "after_the_stop"),
    ),
    Mutant(
        "without a reserve for a full disk",
        ((f"{_SQLITE}/journal.py", "self._write_while_full(", "(lambda *given: None)("),),
        ("tests/outbox/test_faulty_disk.py", "-k", "drained or starts_on"),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="the mutants to try; all if none is named")
    names = parser.parse_args().names
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    bad = 0
    with tempfile.TemporaryDirectory(prefix="rambla-mutants-") as folder:
        copy = Path(folder) / "repository"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "docs", "build", "dist")
        shutil.copytree(ROOT, copy, ignore=ignored)
        for mutant in chosen:
            began = time.monotonic()
            verdict = _tried(copy, mutant)
            bad += verdict != "red"
            print(f"{verdict:>9}  {mutant.name}  ({time.monotonic() - began:.0f} s)", flush=True)
    raise SystemExit(bool(bad))


def _tried(copy: Path, mutant: Mutant) -> str:
    """Return ``red``, or what is wrong."""
    originals = {path: (copy / path).read_text() for path, _, _ in mutant.changes}
    if _is_red(copy, mutant):
        return "red before"
    try:
        for path, old, new in mutant.changes:
            text = (copy / path).read_text()
            if old not in text:
                return "no longer fits"
            (copy / path).write_text(text.replace(old, new))
        return "red" if _is_red(copy, mutant) else "SURVIVES"
    finally:
        for path, text in originals.items():
            (copy / path).write_text(text)


def _is_red(copy: Path, mutant: Mutant) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "CI": ""}
    # A session of its own: what a hanging test started ends with it.
    process = subprocess.Popen(
        command,
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return True
    finally:
        end_group(process, signal.SIGKILL)
    if process.returncode not in (0, 1):
        tail = output.decode()[-2_000:]
        raise SystemExit(f"{mutant.name}: pytest ended with {process.returncode}\n{tail}")
    return process.returncode == 1


if __name__ == "__main__":
    main()
