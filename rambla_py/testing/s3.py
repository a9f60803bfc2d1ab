"""The recipe of a real S3 for tests: moto's server in a process of its own."""

from __future__ import annotations

import base64
import importlib.util
import json
import socket
import sys
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rambla_py.testing.ports import HOST
from rambla_py.testing.server_process import Server
from rambla_py.testing.servers import TlsFiles

__all__ = ["MotoServer"]

_PROBE_TIMEOUT_S = 1.0
_RECORDER_TIMEOUT_S = 30.0


class MotoServer(Server):
    """A private S3 that keeps its objects in memory: ``kill`` and ``restart`` lose them.

    After ``record()`` it records each request before it executes it, and ``replay()`` executes all of
    these out again: with both, and the buckets created again, a killed server has what it had. Concurrent
    requests have to be small, some 6 KB at most: the writing is not locked.

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

    def record(self) -> None:
        """Record each request from now on, until the server ends."""
        self._ask_recorder("start-recording")

    def replay(self) -> None:
        """Execute the recorded requests again, except those that a kill or a cut left incomplete."""
        if not self._recording.exists():  # the server was killed before the first request
            return
        whole = [line for line in self._recording.read_bytes().splitlines() if _is_whole(line)]
        self._recording.write_bytes(b"".join(line + b"\n" for line in whole))
        self._ask_recorder("replay-recording")

    @property
    def _recording(self) -> Path:
        return self.folder / "recording"

    def _ask_recorder(self, verb: str) -> None:
        url = f"http://{self.host}:{self.port}/moto-api/recorder/{verb}"
        with urllib.request.urlopen(url, data=b"", timeout=_RECORDER_TIMEOUT_S) as answer:
            answer.read()

    def _environment(self) -> Mapping[str, str]:
        settings = {"MOTO_RECORDER_FILEPATH": str(self._recording)}
        if self.open_actions is not None:
            settings["INITIAL_NO_AUTH_ACTION_COUNT"] = str(self.open_actions)
        return settings

    def _argv(self) -> Sequence[str]:
        argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", HOST, "-p", str(self.port)]
        if self.tls:
            argv += ["-s", "-c", str(self.tls.certificate), "-k", str(self.tls.key)]
        return [*argv, *self.config]

    def _answers(self) -> bool:
        # A listening port is enough: a request would count among the open actions.
        with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S):
            return True


def _is_whole(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    headers = {name.lower(): value for name, value in entry["headers"].items()}
    return len(base64.b64decode(entry["body"] or "")) == int(headers.get("content-length", 0))
