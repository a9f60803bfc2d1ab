"""The recipe of a private NATS server with JetStream."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence

from rambla_py.testing.ports import HOST
from rambla_py.testing.secured_server import SecuredServer

__all__ = ["NatsServer"]

_PROBE_TIMEOUT_S = 1.0


class NatsServer(SecuredServer):
    """A private nats-server whose streams are kept over ``restart`` and ``kill``.

    With ``tls`` it takes TLS only, and asks clients for no certificate. With ``password`` the user
    ``somebody`` must log in. ``config`` holds further lines of its configuration file.
    """

    package = "nats-server"
    programs = ("nats-server",)

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:port``, with user and password where they are needed; ``tls://`` with TLS."""
        login = f"somebody:{self.password}@" if self.password else ""
        return f"{'tls' if self.tls else 'nats'}://{login}{self.host}:{self.port}"

    def _prepare(self) -> None:
        lines = [
            f"listen: {HOST}:{self.port}",
            f'jetstream {{ store_dir: "{self.folder}" }}',
            *self._security(),
            *self.config,
        ]
        (self.folder / "nats.conf").write_text("\n".join(lines) + "\n")

    def _security(self) -> Iterable[str]:
        if self.password:
            yield f'authorization {{ user: somebody, password: "{self.password}" }}'
        if self.tls:
            yield f'tls {{ cert_file: "{self.tls.certificate}", key_file: "{self.tls.key}" }}'

    def _argv(self) -> Sequence[str]:
        return [self._program("nats-server"), "-c", str(self.folder / "nats.conf")]

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S) as probe:
            return probe.recv(5) == b"INFO "
