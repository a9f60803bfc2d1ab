"""A web server that is asked to publish, and ended with SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.processes import deadline

_REQUESTS, _WORKERS = 20, 2
_FOLDER = Path(os.environ["RECIPE_FOLDER"])


def gunicorn(*options: str, after: Callable[[], None] | None = None) -> None:
    """Run gunicorn's two workers with these options; ``after`` is called once the last request is answered."""
    port = free_port()
    settings = ["--bind", f"{HOST}:{port}", "--workers", str(_WORKERS), "--config", "python:_gunicorn"]
    _serve(port, "gunicorn", *settings, "--no-control-socket", *options, "_wsgi:application", after=after)


def uvicorn(app: str) -> None:
    """Run uvicorn's two workers."""
    port = free_port()
    _serve(port, "uvicorn", "--host", HOST, "--port", str(port), "--workers", str(_WORKERS), app)


def _serve(port: int, *command: str, after: Callable[[], None] | None = None) -> None:
    server = subprocess.Popen([sys.executable, "-m", *command], cwd=Path(__file__).parent)
    try:
        _await(lambda: _answers(port))
        if command[0] == "gunicorn":
            _await(lambda: len(list(_FOLDER.glob("booted-*"))) == _WORKERS)
        for _ in range(_REQUESTS):
            _ask(port, "/")
        if after is not None:
            after()
        server.send_signal(signal.SIGTERM)
        server.wait(40)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def _await(condition: Callable[[], bool]) -> None:
    for _ in deadline(20.0):
        if condition():
            return
    raise TimeoutError("the server is not ready")


def _answers(port: int) -> bool:
    try:
        _ask(port, "/ready")
    except OSError:
        return False
    return True


def _ask(port: int, path: str) -> None:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=20) as answer:
        answer.read()
