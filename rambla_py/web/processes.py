"""What the other processes of an application answer, asked over their sockets."""

from __future__ import annotations

import http.client
import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from rambla_py.errors import describe
from rambla_py.handler import Secret
from rambla_py.web.sockets import siblings

__all__ = ["Processes", "with_pids"]

log = logging.getLogger("rambla_py.web")

_TIMEOUT_S: Final = 2.0
_MOST_BYTES: Final = 32 * 1024 * 1024
_SAMPLE = re.compile(rb"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (.*)$")


class Processes:
    """The processes that serve an app of the same name on a socket of their own (``socket = "auto"``)."""

    def __init__(self, name: str | None, token: Secret | str | None) -> None:
        self._name, self._token = name, token.reveal() if isinstance(token, Secret) else token

    def statuses(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the document of each process by its id, with that of this one."""
        found = {str(os.getpid()): dict(own)}
        for pid, body in self._ask("/status.json"):
            found[str(pid)] = msgspec.json.decode(body, type=dict[str, Any])
        return found

    def metrics(self, own: bytes) -> bytes:
        """Return the metrics of all processes, each sample with the label ``pid``."""
        return with_pids({os.getpid(): own, **dict(self._ask("/metrics"))})

    def _ask(self, path: str) -> Iterator[tuple[int, bytes]]:
        for pid, at in siblings(self._name):
            try:
                yield pid, self._answer(at, path)
            except (OSError, http.client.HTTPException, ValueError) as error:  # it ends, or hangs
                log.warning("process %d did not answer %s: %s", pid, path, describe(error))

    def _answer(self, at: str, path: str) -> bytes:
        connection = _UnixConnection(at)
        try:
            headers = {} if self._token is None else {"authorization": f"Bearer {self._token}".encode()}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            body = answer.read(_MOST_BYTES + 1)
            if len(body) > _MOST_BYTES:
                raise ValueError(f"over {_MOST_BYTES} bytes")
            return body
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def with_pids(texts: Mapping[int, bytes]) -> bytes:
    r"""Return one exposition of several, each sample with the label ``pid``; families are not repeated.

    >>> one = b'# HELP a_total x\n# TYPE a_total counter\na_total{c="d"} 1.0\n'
    >>> print(with_pids({7: one, 8: one}).decode(), end="")
    # HELP a_total x
    # TYPE a_total counter
    a_total{c="d",pid="7"} 1.0
    a_total{c="d",pid="8"} 1.0
    """
    families: dict[bytes, tuple[list[bytes], list[bytes]]] = {}
    for pid, text in texts.items():
        family, first = b"", False
        for line in text.splitlines():
            if line.startswith((b"# HELP ", b"# TYPE ")):
                name = line.split(b" ", 3)[2]
                if name != family:
                    family, first = name, name not in families
                heads, _ = families.setdefault(family, ([], []))
                if first:
                    heads.append(line)
            elif (found := _SAMPLE.match(line)) is not None:
                labels = (found[2] + b"," if found[2] else b"") + b'pid="%d"' % pid
                families.setdefault(family, ([], []))[1].append(b"%b{%b} %b" % (found[1], labels, found[3]))
    return b"".join(line + b"\n" for heads, samples in families.values() for line in (*heads, *samples))
