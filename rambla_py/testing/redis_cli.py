"""Redis servers of a cluster or a replication, configured with ``redis-cli``."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from rambla_py.testing.processes import deadline, find_program
from rambla_py.testing.server_process import ServerError
from rambla_py.testing.servers import RedisServer, TlsFiles

__all__ = ["SpeakingRedis", "between", "fields_of_info", "run_cli", "until"]

_CONTROL_TIMEOUT_S = 60.0
_SETTLE_S = 40.0
_POLL_S = 0.05
_BETWEEN = "-next-reply-"


class SpeakingRedis(RedisServer):
    """A Redis whose ``redis-cli`` is available; ``paused`` is True while it is paused."""

    package: ClassVar[str] = "redis-server redis-tools"
    programs: ClassVar[Sequence[str]] = ("redis-server", "redis-cli")  # type: ignore[assignment]  # one more
    paused = False

    def pause(self) -> None:
        """Pause the server, and set ``paused``."""
        super().pause()
        self.paused = True

    def resume(self) -> None:
        """Resume a paused server."""
        super().resume()
        self.paused = False

    def kill(self) -> None:
        """End the server at once; one that is started again is not paused."""
        super().kill()
        self.paused = False

    def cli(self, *words: str) -> str:
        """Run a command with ``redis-cli`` and return what it prints; raises ``ServerError``."""
        return run_cli(self, ["-h", self.host, "-p", str(self.port), *words])

    def info(self, section: str) -> dict[str, str]:
        """Return a section of ``INFO``, field by field."""
        return fields_of_info(self.cli("INFO", section))

    def replies(self, *commands: str) -> list[str]:
        """Run commands in one ``redis-cli`` and return what it prints for each, error replies included."""
        script = f"\nECHO {_BETWEEN}\n".join(commands)
        return run_cli(self, ["-h", self.host, "-p", str(self.port)], script).split(f"{_BETWEEN}\n")


def between(password: str | None, tls: TlsFiles | None, *more: str) -> Iterator[str]:
    """Yield the lines of redis.conf by which servers speak to each other; a replica waits no 5 s to begin."""
    yield "repl-diskless-sync-delay 0"
    if password:
        yield f"masterauth {password}"
    if tls:
        yield "tls-replication yes"
        yield from more


def fields_of_info(text: str) -> dict[str, str]:
    """Return the fields of a section of ``INFO``."""
    lines = [line.partition(":") for line in text.splitlines() if ":" in line]
    return {name: value.strip() for name, _, value in lines}


def run_cli(server: RedisServer, words: Sequence[str], script: str | None = None) -> str:
    """Run ``redis-cli`` with a server's password and authority, or on a script; return what it prints.

    Raises ``ServerError`` for an error reply, and when it does not end.
    """
    argv = [find_program("redis-cli") or "redis-cli", "-e"]  # an error reply is an exit code
    if server.tls:
        argv += ["--tls", "--cacert", str(server.tls.authority)]
    if server.password:
        argv += ["--no-auth-warning", "-a", server.password]
    try:
        done = subprocess.run(
            [*argv, *words],
            input=script,
            check=False,
            capture_output=True,
            text=True,
            timeout=_CONTROL_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"").decode(errors="replace")
        raise ServerError(repr(server), f"redis-cli {' '.join(words)} does not end", said) from error
    if done.returncode:
        raise ServerError(repr(server), f"redis-cli {' '.join(words)} failed", done.stdout + done.stderr)
    return done.stdout


def until(condition: Callable[[], bool], reason: Callable[[], str]) -> None:
    """Return once a condition holds; raises ``ServerError`` with the reason when it takes too long."""
    for _ in deadline(_SETTLE_S, _POLL_S):
        if condition():
            return
    raise ServerError("redis", f"within {_SETTLE_S:g} s {reason()}")
