"""A private PgBouncer for tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import struct
from collections.abc import Iterable, Sequence

from rambla_py.testing.databases import DatabaseServer, PostgresServer

__all__ = ["PgBouncer"]

_PROBE_TIMEOUT_S = 1.0


class PgBouncer(DatabaseServer):
    """A private PgBouncer in front of a ``PostgresServer``, which must be running.

    It pools transactions: a statement outside one may run in another session than the one before. ``config``
    holds further lines of the section ``[pgbouncer]`` of its file.

    ::

        with PostgresServer() as server, PgBouncer(server) as pooler:
            psycopg.connect(pooler.url, prepare_threshold=None).execute("select 1")
    """

    package = "pgbouncer"
    programs = ("pgbouncer",)
    folders = ("/usr/sbin", "/usr/bin")
    scheme = "postgresql"

    def __init__(
        self, server: PostgresServer, *, config: Iterable[str] = (), ready_timeout_s: float = 60.0
    ) -> None:
        super().__init__(config=config, ready_timeout_s=ready_timeout_s)
        self.server = server

    def _prepare(self) -> None:
        users, lines = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        users.write_text(f'"{self.user}" "{self.password}"\n')
        lines.write_text(
            "\n".join(
                [
                    "[databases]",
                    f"* = host={self.server.host} port={self.server.port}",
                    "[pgbouncer]",
                    f"listen_addr = {self.host}",
                    f"listen_port = {self.port}",
                    "unix_socket_dir =",
                    "auth_type = scram-sha-256",
                    f"auth_file = {users}",
                    "pool_mode = transaction",
                    *self.config,
                    "",
                ]
            )
        )
        for path in (self.folder, users, lines) if os.getuid() == 0 else ():
            shutil.chown(path, "postgres", "postgres")

    def _argv(self) -> Sequence[str]:
        user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        # It refuses to run as root.
        other = (
            ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if user else []
        )
        return [*other, self._program("pgbouncer"), str(self.folder / "pgbouncer.ini")]

    def _answers(self) -> bool:
        fields = b"user\0%b\0database\0%b\0\0" % (self.user.encode(), self.database.encode())
        with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S) as probe:
            probe.sendall(struct.pack("!ii", len(fields) + 8, 196_608) + fields)
            return probe.recv(1) == b"R"
