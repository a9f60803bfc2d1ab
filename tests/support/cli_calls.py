"""Many calls of the program ``rambla`` in one process, because its imports take longer than what it does."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self


class Done(NamedTuple):
    """How a call ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Program:
    """The program in a process of its own, which calls its ``main`` again and again."""

    def __enter__(self) -> Self:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAMBLA_")}
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=kept, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)

    def run(self, folder: Path, *arguments: str, **environ: str) -> Done:
        """Run ``rambla`` in a folder, with additions to the environment."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([str(folder), arguments, environ]) + "\n")
        self._process.stdin.flush()
        done = Done(*json.loads(self._process.stdout.readline()))
        assert "Traceback" not in done.stderr
        return done


def _call(main: Any, folder: str, arguments: list[str], environ: dict[str, str]) -> Done:
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    os.environ.update(environ)
    os.chdir(folder)
    sys.argv = ["rambla", *arguments]
    code: Any = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        code = end.code
    finally:
        os.environ.clear()
        os.environ.update(before)
    return Done(code, out.getvalue(), err.getvalue())


if __name__ == "__main__":
    from rambla_py.cli import main

    for line in sys.stdin:
        print(json.dumps(_call(main, *json.loads(line))), flush=True)
