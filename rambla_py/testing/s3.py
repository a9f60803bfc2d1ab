"""This module is the recipe of a real S3 for tests: moto's server, in a process of its own."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence

from rambla_py.testing.ports import HOST
from rambla_py.testing.server_process import Server
from rambla_py.testing.servers import TlsFiles

__all__ = ["MotoServer"]

_PROBE_TIMEOUT_S = 1.0


class MotoServer(Server):
    """A private S3 that keeps its objects in memory: ``kill`` and ``restart`` lose them.

    It takes any credentials, unless ``open_actions`` is given: after so many requests those of its own IAM
    users only. With ``tls`` it takes TLS only.
    """

    package = "moto[server], from PyPI"

    def __init__(
        self,
        *,
        tls: TlsFiles | None = None,
        open_actions: int | None = None,
        config: Iterable[str] = (),
        ready_timeout_s: float = 60.0,
    ) -> None:
        super().__init__(config=config, ready_timeout_s=ready_timeout_s)
        self.tls, self.open_actions = tls, open_actions

    @classmethod
    def missing(cls) -> str | None:
        """Return the package to install, or None."""
        return None if importlib.util.find_spec("moto") else cls.package

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, or ``https://`` with TLS; what the connection's ``endpoint`` takes."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def _environment(self) -> Mapping[str, str]:
        return {} if self.open_actions is None else {"INITIAL_NO_AUTH_ACTION_COUNT": str(self.open_actions)}

    def _argv(self) -> Sequence[str]:
        argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", HOST, "-p", str(self.port)]
        if self.tls:
            argv += ["-s", "-c", str(self.tls.certificate), "-k", str(self.tls.key)]
        return [*argv, *self.config]

    def _answers(self) -> bool:
        # That it listens is enough: a request would count among the open actions.
        with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S):
            return True
