"""External servers: asked for, started, watched and stopped for a pool."""

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

from rambla_py.config.schema import ChannelConfig
from rambla_py.errors import HandlerError, StartError, describe
from rambla_py.external_server import ChildSpec, Command
from rambla_py.handler import Handler

__all__ = ["Running", "begin", "ended", "specs_of"]

log = logging.getLogger("rambla_py.external")

_PROBE_S = 0.05
_GRACE_S = 5.0
_BY_HAND = "run it by hand to see why"


class Running:
    """A started external server: ``alive()`` returns whether it runs, ``stop(timeout_s)`` stops it."""

    def __init__(self, handle: Any, alive: Callable[[], bool], stop: Callable[[float], None]) -> None:
        self.handle, self.alive, self.stop = handle, alive, stop


def specs_of(handler: Handler, config: ChannelConfig) -> tuple[ChildSpec | Command, ...]:
    """Return the external servers that a handler asks for; raises ``HandlerError`` for wrong ones."""
    if type(handler).external_servers is Handler.external_servers:
        return ()
    try:
        servers = tuple(_spec(server) for server in handler.external_servers(config.channel))
    except Exception as error:  # user code
        raise HandlerError(config.name, f"external_servers raised {error!r}") from error
    for at, server in enumerate(servers):
        if not isinstance(server, ChildSpec | Command):
            expected = "expected ChildSpec, Command or a pykka actor class"
            raise HandlerError(config.name, f"external_servers: {expected}, got {server!r}")
        if any(server.id == other.id for other in servers[:at]):
            raise HandlerError(
                config.name, f"external_servers: two have the id {server.id!r}; give each its own id"
            )
    return servers


def _spec(server: Any) -> Any:
    return ChildSpec(server.__name__, server) if _is_actor(server) else server


def _is_actor(start: Any) -> bool:
    return isinstance(start, type) and issubclass(start, pykka.ThreadingActor)


def begin(server: ChildSpec | Command, stopping: threading.Event, extra: dict[str, Any]) -> Running:
    """Start an external server and wait until it is ready; raises ``StartError``.

    ``stopping`` ends the wait early; ``extra`` are the fields of log records about it.
    """
    try:
        if isinstance(server, Command):
            return _begin_command(server, stopping)
        return _begin_spec(server, extra)
    except StartError:
        raise
    except BaseException as error:  # user code: it must not end the supervisor
        reason = f"external server {server.id!r} did not start: {describe(error)}"
        raise StartError(reason, "correct what starts it in external_servers") from error


def ended(server: ChildSpec | Command, times: int, within_s: float) -> StartError:
    """Return the error of an external server that does not stay up."""
    reason = f"external server {server.id!r} ended {times} times within {within_s:g} s"
    return StartError(reason, _BY_HAND if isinstance(server, Command) else "see why its alive() is false")


def _begin_spec(server: ChildSpec, extra: dict[str, Any]) -> Running:
    if _is_actor(server.start):
        ref = server.start.start()  # type: ignore[attr-defined]  # an actor class, as _is_actor has found
        return Running(ref, ref.is_alive, lambda timeout_s: _stop_actor(ref, timeout_s))
    handle = server.start()
    return Running(
        handle, lambda: _spec_alive(server, handle), lambda timeout_s: _spec_stop(server, handle, extra)
    )


def _spec_alive(server: ChildSpec, handle: Any) -> bool:
    if server.alive is None:
        return True
    try:
        return bool(server.alive(handle))
    except BaseException:  # user code; a check that raises counts as a dead server
        return False


def _spec_stop(server: ChildSpec, handle: Any, extra: dict[str, Any]) -> None:
    if server.stop is not None:
        try:
            server.stop(handle)
        except BaseException:  # user code; the servers before it must still be stopped
            log.exception("external server %r: stop raised", server.id, extra=extra)


def _stop_actor(ref: pykka.ActorRef[Any], timeout_s: float) -> None:
    with contextlib.suppress(pykka.ActorDeadError, pykka.Timeout):
        ref.stop(block=True, timeout=timeout_s)


def _begin_command(command: Command, stopping: threading.Event) -> Running:
    try:
        process = subprocess.Popen(
            list(command.argv),
            env={**os.environ, **(command.env or {})},
            cwd=command.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # its own process group, to be stopped with its children
        )
    except OSError as error:
        raise _cannot_run(command, error) from error
    try:
        _await_ready(command, process, stopping)
    except BaseException:
        _end_group(process)
        raise
    return Running(process, lambda: process.poll() is None, lambda timeout_s: _end_group(process, timeout_s))


def _cannot_run(command: Command, error: OSError) -> StartError:
    program = command.argv[0]
    if error.filename is not None and error.filename == command.cwd:
        return StartError(
            f"external server {command.id!r}: its cwd {command.cwd!r} cannot be used: {error.strerror}",
            "create it, or correct cwd",
        )
    return StartError(
        f"external server {command.id!r}: cannot run {program!r}: {error.strerror}",
        "install it, or correct argv",
    )


def _await_ready(command: Command, process: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    deadline = time.monotonic() + command.ready_timeout_s
    while command.ready is not None and not _is_ready(command.ready):
        name = f"external server {command.id!r}"
        if process.poll() is not None:
            raise StartError(f"{name} ended with code {process.returncode} before it was ready", _BY_HAND)
        if stopping.wait(_PROBE_S):
            raise StartError(f"{name} was not ready yet", "the app is stopping")
        if time.monotonic() >= deadline:
            waited_s = command.ready_timeout_s
            raise StartError(
                f"{name} was not ready within {waited_s:g} s: no answer at {command.ready}",
                f"correct ready, or raise ready_timeout_s; else {_BY_HAND}",
            )


def _is_ready(ready: str) -> bool:
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
    process: subprocess.Popen[bytes],
    timeout_s: float = _GRACE_S,
    signals: Sequence[int] = (signal.SIGTERM, signal.SIGKILL),
) -> None:
    """Stop a process and its group with SIGTERM, and after ``timeout_s`` with SIGKILL."""
    for number in signals:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=timeout_s)
            break
        except subprocess.TimeoutExpired:
            continue
    # The leader has ended; end what is left of its group.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
