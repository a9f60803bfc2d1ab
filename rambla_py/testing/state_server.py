"""A private ``rambla state serve`` for tests."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Mapping, Sequence

from rambla_py.testing.server_process import Server

__all__ = ["StateServer"]

_PROBE_TIMEOUT_S = 1.0


class StateServer(Server):
    """A private ``rambla state serve``, which keeps its records in SQLite over ``restart`` and ``kill``.

    ``config`` holds further arguments of the command, ``environment`` is added to its environment. Needs the
    extra ``web``.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        config: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
        ready_timeout_s: float = 30.0,
    ) -> None:
        super().__init__(config=config, ready_timeout_s=ready_timeout_s)
        self.token = token
        self._added = dict(environment or {})

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``, or ``https://`` where a certificate was given."""
        scheme = "https" if "--tls-cert" in self.config else "http"
        return f"{scheme}://{self.host}:{self.port}"

    def _argv(self) -> Sequence[str]:
        store = f"sqlite:///{self.folder / 'state.db'}"
        serve = [sys.executable, "-m", "rambla_py", "state", "serve", store]
        return [*serve, "--host", self.host, "--port", str(self.port), *self.config]

    def _environment(self) -> Mapping[str, str]:
        return {**({"RAMBLA_STATE_TOKEN": self.token} if self.token else {}), **self._added}

    def _answers(self) -> bool:
        socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S).close()
        return True
