"""What a process did to the files of a journal, call by call, and the files that a power cut would leave."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

MAIN, LOG, PROMISES, RESERVE, JOURNAL, FOLDER = range(6)
WRITE, SYNC_BEGINS, SYNC_ENDS, TRUNCATE, REMOVE = range(1, 6)

_RECORD = struct.Struct("=IIIIq")
_SECTOR = 512
_NAMES = {MAIN: "outbox.db", LOG: "outbox.db-wal", JOURNAL: "outbox.db-journal"}


class Call(NamedTuple):
    """One call: a write of ``data`` at ``offset``, the begin or end of a sync, a truncation to ``offset``."""

    kind: int
    file: int
    thread: int
    offset: int
    data: bytes


@cache
def library() -> str:
    """Return the path of the recorder, built from its source; skips without a compiler, fails under CI."""
    source = Path(__file__).with_name("recorder.c")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        reason = "there is no C compiler"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"rambla-recorder-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"recorder-{source.stat().st_mtime_ns}.so"
    if not target.exists():
        fresh = folder / f"{os.getpid()}.so"
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(fresh), str(source), "-ldl", "-lpthread"]
        subprocess.run(command, check=True)
        fresh.rename(target)
    return str(target)


def environment(log: Path | None = None) -> dict[str, str]:
    """Return the environment of a process whose calls are recorded, in ``log`` if it is given."""
    support = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    recorded = {**os.environ, "LD_PRELOAD": library(), "RECORDER_MATCH": "outbox.db", "PYTHONPATH": support}
    if log is None:
        return recorded
    return {**recorded, "RECORDER_LOG": str(log), "RECORDER_FOLDER": str(log.parent)}


def calls_of(log: Path) -> list[Call]:
    """Return the recorded calls, in their order."""
    content, at, calls = log.read_bytes(), 0, []
    while at < len(content):
        kind, file, thread, size, offset = _RECORD.unpack_from(content, at)
        at += _RECORD.size
        data = content[at : at + size] if kind == WRITE else b""
        at += len(data)
        calls.append(Call(kind, file, thread, offset, data))
    return calls


def image(calls: list[Call], folder: Path, rng: random.Random) -> None:
    """Write the files that these calls may have left on the disk when the power was cut after the last.

    What was synced is there; of each other write any sectors may be missing, a truncation as well. A file
    that was removed may be there again, unless its folder was synced.
    """
    removed = _synced(calls, FOLDER)
    for file, name in _NAMES.items():
        synced, content = _synced(calls, file), bytearray()
        exists = file == MAIN
        for at, call in enumerate(calls):
            if call.file != file:
                continue
            if call.kind != REMOVE:
                exists = True
                _apply(call, content, whole=at < synced, rng=rng)
            elif at < removed or rng.random() < 0.5:
                content, exists = bytearray(), False
        if exists:
            (folder / name).write_bytes(content)


def _synced(calls: list[Call], file: int) -> int:
    """Return how many of the calls came before the last sync of a file that was completed."""
    begun: dict[int, int] = {}
    upto = 0
    for at, call in enumerate(calls):
        if call.file == file and call.kind == SYNC_BEGINS:
            begun[call.thread] = at
        elif call.file == file and call.kind == SYNC_ENDS:
            upto = max(upto, begun.pop(call.thread))
    return upto


def _apply(call: Call, content: bytearray, *, whole: bool, rng: random.Random) -> None:
    if call.kind == TRUNCATE and (whole or rng.random() < 0.5):
        del content[call.offset :]
        content.extend(bytes(max(0, call.offset - len(content))))
    elif call.kind == WRITE and whole:
        _put(content, call.offset, call.data)
    elif call.kind == WRITE:
        lost = rng.choice([0.0, 0.1, 0.5, 1.0])
        for start in range(0, len(call.data), _SECTOR):
            if rng.random() >= lost:
                _put(content, call.offset + start, call.data[start : start + _SECTOR])


def _put(content: bytearray, at: int, data: bytes) -> None:
    content.extend(bytes(max(0, at + len(data) - len(content))))
    content[at : at + len(data)] = data
