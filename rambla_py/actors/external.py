"""This module starts, watches and stops the external servers that a pool needs."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import pykka

from rambla_py.errors import RamblaError
from rambla_py.handler import ChildSpec, Command

__all__ = ["ExternalServerError", "Running", "begin"]

log = logging.getLogger("rambla_py.external")

_PROBE_S = 0.05
_GRACE_S = 5.0


class ExternalServerError(RamblaError):
    """An external server did not start, or was not ready in time."""


class Running:
    """One started external server: ask whether it is ``alive``, or ``stop`` it."""

    def __init__(self, server_id: str, alive: Callable[[], bool], stop: Callable[[], None]) -> None:
        self.id, self.alive, self.stop = server_id, alive, stop


def begin(server: ChildSpec | Command, stopping: threading.Event) -> Running:
    """Start an external server and wait until it is ready; raises ``ExternalServerError``.

    ``stopping`` ends the wait early.
    """
    if isinstance(server, Command):
        return _begin_command(server, stopping)
    start = server.start
    if isinstance(start, type) and issubclass(start, pykka.ThreadingActor):
        ref = start.start()
        return Running(server.id, ref.is_alive, lambda: _stop_actor(ref))
    try:
        handle = start()
    except BaseException as error:  # user code: it must not end the supervisor
        raise ExternalServerError(f"external server {server.id!r} did not start: {error!r}") from error
    return Running(server.id, lambda: _spec_alive(server, handle), lambda: _spec_stop(server, handle))


def _spec_alive(server: ChildSpec, handle: Any) -> bool:
    if server.alive is None:
        return True
    try:
        return bool(server.alive(handle))
    except BaseException:  # user code: a check that raises is a server that does not answer
        return False


def _spec_stop(server: ChildSpec, handle: Any) -> None:
    if server.stop is not None:
        try:
            server.stop(handle)
        except BaseException:  # user code: the servers before it have to be stopped all the same
            log.exception("external server %r: its stop raised", server.id)


def _stop_actor(ref: pykka.ActorRef[Any]) -> None:
    with contextlib.suppress(pykka.ActorDeadError, pykka.Timeout):
        ref.stop(block=True, timeout=_GRACE_S)


def _begin_command(command: Command, stopping: threading.Event) -> Running:
    name = command.argv[0]
    try:
        process = subprocess.Popen(
            list(command.argv),
            env={**os.environ, **(command.env or {})},
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a process group of its own, to end with all that it starts
        )
    except OSError as error:
        raise ExternalServerError(f"cannot run {name!r}: {error.strerror}; is it installed?") from error
    try:
        _await_ready(command, process, stopping)
    except BaseException:
        _end_group(process)
        raise
    return Running(name, lambda: process.poll() is None, lambda: _end_group(process))


def _await_ready(command: Command, process: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    deadline = time.monotonic() + command.ready_timeout_s
    while command.ready is not None and not _answers(command.ready):
        name = command.argv[0]
        if process.poll() is not None:
            raise ExternalServerError(f"{name!r} ended with code {process.returncode} before it was ready")
        if stopping.wait(_PROBE_S):
            raise ExternalServerError(f"{name!r} was given up: the app is stopping")
        if time.monotonic() >= deadline:
            waited_s = command.ready_timeout_s
            raise ExternalServerError(
                f"{name!r} was not ready within {waited_s:g} s: no answer at {command.ready}"
            )


def _answers(ready: str) -> bool:
    url = urllib.parse.urlsplit(ready)
    if url.scheme == "file":
        return os.path.exists(url.path)
    if url.scheme == "tcp":
        return _accepts(url.hostname or "127.0.0.1", url.port or 0)
    try:
        with urllib.request.urlopen(ready, timeout=1.0) as answer:
            return bool(answer.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def _end_group(
    process: subprocess.Popen[bytes], signals: Sequence[int] = (signal.SIGTERM, signal.SIGKILL)
) -> None:
    """End a process and all of its group: ask first, then insist."""
    for number in signals:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=_GRACE_S)
            break
        except subprocess.TimeoutExpired:
            continue
    # The leader is gone; what it left in its group goes, too.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
