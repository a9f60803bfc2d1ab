"""External servers of ``rambla check``."""

from __future__ import annotations

import os
import shutil
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Final, TypeVar

from rambla_py.config import ChannelConfig, Config
from rambla_py.errors import HandlerError, RamblaError
from rambla_py.external_server import ChildSpec, Command
from rambla_py.handler import Handler
from rambla_py.runtime.ping import Pinged
from rambla_py.runtime.supervision.external_servers import begin
from rambla_py.runtime.supervision.plan import external_servers
from rambla_py.status import Ping
from rambla_py.telemetry.error_text import ErrorText
from rambla_py.telemetry.records import target_extra

__all__ = ["server_problems", "with_servers"]

Answer = TypeVar("Answer")

_STOP_S: Final = 5.0
_READY: Final = ("tcp", "http", "https", "file")


def with_servers(
    config: Config,
    chosen: Sequence[ChannelConfig],
    ask: Callable[[Sequence[Pinged]], Sequence[Answer]],
    failed: Callable[[Ping], Answer],
) -> list[Answer]:
    """Return what ``ask`` answers for each channel, while its external servers run.

    A child spec that cannot work, or a server that does not start, is what ``failed`` makes of
    a failed ping.
    """
    text = ErrorText(config.secrets, details=config.rambla.log_payloads)
    found: dict[str, Answer] = {}
    plain: list[Pinged] = []
    for one in chosen:
        off = not (one.enabled and config.rambla.enabled)
        if off or one.handler.external_servers is Handler.external_servers:
            plain.append(Pinged(one))
        else:
            with ExitStack() as servers:
                try:
                    pinged = Pinged(one, _started(one, servers))
                except RamblaError as error:
                    found[one.name] = failed(_ping(one, error, text))
                else:
                    found[one.name] = ask([pinged])[0]
    found |= {pinged.channel.name: answer for pinged, answer in zip(plain, ask(plain), strict=True)}
    return [found[one.name] for one in chosen]


def _started(config: ChannelConfig, stack: ExitStack) -> dict[str, Any]:
    """Start the external servers of a channel, until the stack is closed; return their handles."""
    servers = external_servers(config)
    problems = [problem for server in servers for problem in server_problems(server)]
    if problems:
        raise HandlerError(config.name, f"external_servers: {'; '.join(problems)}")
    handles: dict[str, Any] = {}
    for server in servers:
        running = begin(server, threading.Event(), target_extra(config))
        stack.callback(running.stop, _STOP_S)
        handles[server.id] = running.handle
    return handles


def _ping(config: ChannelConfig, error: RamblaError, text: ErrorText) -> Ping:
    return Ping(config.service, config.channel, ok=False, took_s=0.0, error=text(error), exception=error)


def server_problems(server: ChildSpec | Command) -> list[str]:
    """Return what is wrong with a child spec, without starting it.

    >>> server_problems(ChildSpec("broker", start=None))
    ["'broker': start must be callable; got None"]
    >>> server_problems(Command(["no-such-program"], ready="udp://localhost:1"))
    ["'no-such-program': no program 'no-such-program' in PATH; install it, or correct argv", \
"'no-such-program': ready must be a tcp, http, https or file URL; got 'udp://localhost:1'"]
    """
    found = _of_command(server) if isinstance(server, Command) else _of_spec(server)
    return [f"{server.id!r}: {problem}" for problem in found]


def _of_spec(spec: ChildSpec) -> Iterator[str]:
    if not callable(spec.start):
        yield f"start must be callable; got {spec.start!r}"
    for name, given in (("stop", spec.stop), ("alive", spec.alive)):
        if given is not None and not callable(given):
            yield f"{name} must be callable, or None; got {given!r}"


def _of_command(command: Command) -> Iterator[str]:
    argv = command.argv
    if isinstance(argv, str) or not argv or not all(isinstance(part, str) for part in argv):
        yield "argv must be a list of strings, the program first"
        return
    folder = command.cwd or "."
    if not os.path.isdir(folder):
        yield f"no folder {folder!r}; create it, or correct cwd"
    elif shutil.which(argv[0]) is None and not os.path.exists(os.path.join(folder, argv[0])):
        yield f"no program {argv[0]!r} in PATH; install it, or correct argv"
    if command.ready is not None and urllib.parse.urlsplit(command.ready).scheme not in _READY:
        yield f"ready must be a tcp, http, https or file URL; got {command.ready!r}"
    if command.ready_timeout_s <= 0:
        yield f"ready_timeout_s must be more than 0; got {command.ready_timeout_s:g}"
