"""Private database servers for tests.

::

    with PostgresServer() as server:
        psycopg.connect(server.url).execute("select 1")
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from rambla_py.testing.processes import deadline
from rambla_py.testing.server_process import Server, ServerError
from rambla_py.testing.servers import TlsFiles

__all__ = ["DatabaseServer", "MariaDbServer", "PostgresServer"]

_PROBE_TIMEOUT_S = 1.0
_SETUP_TIMEOUT_S = 60.0
_GONE_TIMEOUT_S = 10.0


class DatabaseServer(Server):
    """What the databases share: a user with a password, a database of that user's, TLS when files are given.

    They listen on 127.0.0.1 and on 127.0.0.2, which the certificates of tests do not name.
    """

    user: ClassVar[str] = "rambla"
    password: ClassVar[str] = "s3cret"
    database: ClassVar[str] = "rambla"
    scheme: ClassVar[str]

    def __init__(
        self, *, tls: TlsFiles | None = None, config: Iterable[str] = (), ready_timeout_s: float = 60.0
    ) -> None:
        super().__init__(config=config, ready_timeout_s=ready_timeout_s)
        self.tls = tls

    @property
    def url(self) -> str:
        """``scheme://rambla:s3cret@127.0.0.1:port/rambla``."""
        return self.url_at(self.host, self.port)

    def url_at(self, host: str, port: int, password: str | None = None) -> str:
        """Return the URL of this server by another address, as through a proxy, or with another password."""
        word = quote(self.password if password is None else password, safe="")
        return f"{self.scheme}://{self.user}:{word}@{host}:{port}/{self.database}"

    def _run(self, argv: Sequence[str], **options: str) -> None:
        done = subprocess.run(
            argv,
            check=False,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_SETUP_TIMEOUT_S,
            env={**os.environ, **options},
        )
        if done.returncode:
            raise ServerError(repr(self), f"{Path(argv[0]).name} failed", done.stdout + done.stderr)


class PostgresServer(DatabaseServer):
    """A private PostgreSQL, which runs as the user ``postgres`` where the tests run as root.

    ``config`` holds further lines of ``postgresql.conf``. What was committed is kept over ``restart`` and
    ``kill``; only a crash of the machine would lose it.
    """

    package = "postgresql"
    programs = ("postgres", "initdb")
    folders = tuple(str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    scheme = "postgresql"

    def stop(self) -> None:
        """Ask the server to end without waiting for its clients (SIGINT)."""
        self._end(signal.SIGINT)

    def _prepare(self) -> None:
        data, word = self.folder / "data", self.folder / "password"
        word.write_text(self.password + "\n")
        self._give(self.folder, word)
        self._run(
            [
                *self._as_user(),
                self._program("initdb"),
                f"--pgdata={data}",
                f"--username={self.user}",
                f"--pwfile={word}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "--no-instructions",
            ]
        )
        lines = [
            f"port = {self.port}",
            "listen_addresses = '127.0.0.1,127.0.0.2'",
            f"unix_socket_directories = '{self.folder}'",
            "fsync = off",
            "shared_buffers = 32MB",
            "max_connections = 60",
            "update_process_title = off",  # it would be written over the environment that /proc shows
            *self._security(),
            *self.config,
        ]
        with (data / "postgresql.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")
        # The program has no way to make a database; a single-user run of the server has.
        made = subprocess.run(
            [*self._as_user(), self._program("postgres"), "--single", "-D", str(data), "postgres"],
            input=f"CREATE DATABASE {self.database}\n",
            check=False,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=_SETUP_TIMEOUT_S,
        )
        if made.returncode:
            raise ServerError(repr(self), "the database was not made", made.stdout + made.stderr)

    def _security(self) -> Iterable[str]:
        if self.tls:
            for name, source in (("server.crt", self.tls.certificate), ("server.key", self.tls.key)):
                copy = self.folder / name
                shutil.copyfile(source, copy)
                copy.chmod(0o600)
                self._give(copy)
            yield "ssl = on"
            yield f"ssl_cert_file = '{self.folder / 'server.crt'}'"
            yield f"ssl_key_file = '{self.folder / 'server.key'}'"

    def _give(self, *paths: Path) -> None:
        if os.getuid() == 0:
            for path in paths:
                shutil.chown(path, "postgres", "postgres")

    def _as_user(self) -> list[str]:
        """Return what makes a command run as another user: the server refuses to run as root."""
        if os.getuid() != 0:
            return []
        user = pwd.getpwnam("postgres")
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]

    def _argv(self) -> Sequence[str]:
        return [*self._as_user(), self._program("postgres"), "-D", str(self.folder / "data")]

    def _answers(self) -> bool:
        fields = b"user\0%b\0database\0%b\0\0" % (self.user.encode(), self.database.encode())
        with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S) as probe:
            probe.sendall(struct.pack("!ii", len(fields) + 8, 196_608) + fields)
            return probe.recv(1) == b"R"  # it asks for the password; an error while it is starting up

    def _signal(self, number: signal.Signals) -> None:
        super()._signal(number)
        for pid in _children_of(self.pid or 0):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _end(self, number: signal.Signals) -> None:
        # Its processes have sessions of their own, and the next start is refused while one is left.
        left = _children_of(self.pid) if self.pid is not None else []
        for pid in left if number is not signal.SIGKILL else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)  # a paused process handles no other signal
        super()._end(number)
        for pid in left:
            _end_process(pid)


class MariaDbServer(DatabaseServer):
    """A private MariaDB; ``config`` holds further options of ``mariadbd``, as ``--max-allowed-packet=1M``."""

    package = "mariadb-server"
    programs = ("mariadbd", "mariadb-install-db")
    folders = ("/usr/sbin", "/usr/bin")
    scheme = "mysql"

    def _prepare(self) -> None:
        self._run(
            [
                self._program("mariadb-install-db"),
                "--no-defaults",
                *self._as_user(),
                f"--datadir={self.folder / 'data'}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ]
        )
        (self.folder / "init.sql").write_text(
            f"CREATE DATABASE IF NOT EXISTS {self.database} CHARACTER SET utf8mb4;\n"
            f"CREATE USER IF NOT EXISTS '{self.user}'@'%' IDENTIFIED BY '{self.password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO '{self.user}'@'%';\n"
        )

    def _as_user(self) -> list[str]:
        return ["--user=root"] if os.getuid() == 0 else []

    def _argv(self) -> Sequence[str]:
        return [
            self._program("mariadbd"),
            "--no-defaults",
            *self._as_user(),
            f"--datadir={self.folder / 'data'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1,127.0.0.2",
            f"--socket={self.folder / 's'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--init-file={self.folder / 'init.sql'}",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M",
            *self._security(),
            *self.config,
        ]

    def _security(self) -> Iterable[str]:
        if self.tls:
            yield f"--ssl-cert={self.tls.certificate}"
            yield f"--ssl-key={self.tls.key}"

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S) as probe:
            return len(probe.recv(16)) > 4  # its greeting


def _children_of(pid: int) -> list[int]:
    numbers = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [number for number in numbers if _state_of(number)[1:] == (str(pid),)]


def _end_process(pid: int) -> None:
    for _ in deadline(_GONE_TIMEOUT_S, poll_s=0.01):
        if _state_of(pid)[:1] in ((), ("Z",)):
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _state_of(pid: int) -> tuple[str, ...]:
    """Return the state and the parent of a process, or nothing when it is gone."""
    with suppress(OSError):
        return tuple(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2])
    return ()
