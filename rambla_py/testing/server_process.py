"""One private server process, on free ports of 127.0.0.1 and in a folder of its own."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from rambla_py.errors import RamblaError
from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.processes import deadline, end_group, find_program, guard

__all__ = ["Server", "ServerError"]

_LOG_TAIL = 4_000


class ServerError(RamblaError):
    """A private server failed; the message ends with the tail of its log."""

    def __init__(self, server: str, reason: str, log: str = "") -> None:
        self.server, self.reason, self.log = server, reason, log
        super().__init__(f"{server}: {reason}" + (f"; its log ends:\n{log}" if log else ""))


class Server:
    """A real server, private to this process. Subclass it for each kind: a recipe of about twenty lines.

    A recipe names the Debian ``package`` and its ``programs``, writes its files in ``_prepare``, gives the
    command in ``_argv`` and probes in ``_answers``. The port and the folder stay the same over ``stop``,
    ``kill`` and ``restart``, so data that the server keeps on disk is still there; ``close`` removes the
    folder. If this process dies, even by SIGKILL, the servers end too. Not thread-safe.
    """

    package: ClassVar[str] = ""
    programs: ClassVar[Sequence[str]] = ()
    folders: ClassVar[Sequence[str]] = ()

    def __init__(self, *, config: Iterable[str] = (), ready_timeout_s: float = 60.0) -> None:
        self.host = HOST
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-"))
        self.config = tuple(config)
        self.ready_timeout_s = ready_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._prepared = False
        self._owner = os.getpid()
        atexit.register(self.close)

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.running else "stopped"
        return f"<{type(self).__name__} {self.host}:{self.port} {state}>"

    @classmethod
    def missing(cls) -> str | None:
        """Return the Debian package to install when a program is absent, or None when all are there."""
        absent = [name for name in cls.programs if find_program(name, *cls.folders) is None]
        return cls.package if absent else None

    @property
    def url(self) -> str:
        """Where clients connect to, with credentials."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None when it does not run."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether the process is there; a paused server is."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it answers; nothing happens when it runs already.

        Raises ``ServerError``, with the end of the log, when its program is missing, when it ends by itself
        or when it does not answer within ``ready_timeout_s``.
        """
        if self.running:
            return self
        if package := self.missing():
            raise ServerError(repr(self), f"a program is missing; install the package {package}")
        self.kill()  # the remains of one that ended by itself
        if not self._prepared:
            self._prepare()
            self._prepared = True
        self._start_companions()
        self._process = self._spawn(self._argv(), "server.out")
        self._guard = guard(self._process.pid)
        self._wait_until_ready()
        return self

    def stop(self) -> None:
        """Ask the server to end (SIGTERM), and kill it after 15 s; its data stays for ``start``."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server at once with SIGKILL, as a crash would."""
        self._end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stop and start it again, on the same port and with its data."""
        self.stop()
        return self.start()

    def pause(self) -> None:
        """Pause the server (SIGSTOP): its connections stay open and nothing answers.

        Returns once each of its threads stands still, because a signal takes its time.
        """
        self._signal(signal.SIGSTOP)
        for _ in deadline(self.ready_timeout_s):
            if set(_thread_states(self._process)) <= {"T", "Z"}:
                return
        self._refuse("did not stop")

    def resume(self) -> None:
        """Resume a paused server (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the server and remove its folder; may be called twice. Runs at interpreter exit too.

        A forked child leaves the server to its parent.
        """
        atexit.unregister(self.close)
        if os.getpid() != self._owner:
            return
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self) -> str:
        """Return the last 4,000 characters of each of the logs."""
        texts = [path.read_text(errors="replace")[-_LOG_TAIL:] for path in self._logs() if path.is_file()]
        return "\n".join(text.strip() for text in texts if text.strip())

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self) -> None:
        """Write what the server needs before its first start."""

    def _start_companions(self) -> None:
        """Start what must run before the server does; ``_end`` is then overridden to end it."""

    def _argv(self) -> Sequence[str]:
        """Return the command that runs the server in the foreground."""
        raise NotImplementedError

    def _environment(self) -> Mapping[str, str]:
        """Return what is added to the environment of the server."""
        return {}

    def _answers(self) -> bool:
        """Return whether the server answers; an ``OSError`` counts as False."""
        raise NotImplementedError

    def _logs(self) -> Iterable[Path]:
        return [self.folder / "server.out"]

    def _program(self, name: str) -> str:
        return find_program(name, *self.folders) or name

    def _spawn(self, argv: Sequence[str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as out:
            return subprocess.Popen(
                argv,
                cwd=self.folder,
                env={**os.environ, **self._environment()},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        for _ in deadline(self.ready_timeout_s):
            with suppress(OSError):
                if self._answers():
                    return
            if not self.running:
                code = self._process.returncode if self._process is not None else None
                self._refuse(f"ended by itself with exit code {code}")
        self._refuse(f"did not answer within {self.ready_timeout_s:g} s")

    def _refuse(self, reason: str) -> None:
        name, log = repr(self), self.log_tail()
        self.kill()
        raise ServerError(name, reason, log)

    def _signal(self, number: signal.Signals) -> None:
        if not self.running or self._process is None:
            raise ServerError(repr(self), f"cannot be sent {number.name}: it does not run")
        os.killpg(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        # The guard goes first: afterwards the process id may be another process's.
        guard, self._guard = self._guard, None
        process, self._process = self._process, None
        if guard is not None:
            end_group(guard, signal.SIGKILL)
        if process is not None:
            end_group(process, number)


def _thread_states(group: subprocess.Popen[bytes] | None) -> Iterator[str]:
    """Yield the state of each thread in a group of processes: ``T`` if stopped, ``Z`` if ended."""
    for path in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if group is not None and int(fields[2]) == group.pid:
                yield fields[0]
