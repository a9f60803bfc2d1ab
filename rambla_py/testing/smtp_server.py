"""A private mail relay for tests, made of ``aiosmtpd``."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
from base64 import b64decode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.server_process import Server
from rambla_py.testing.servers import TlsFiles

__all__ = ["KeptMail", "SmtpServer"]

_PROBE_TIMEOUT_S = 1.0
_SIZE = 33_554_432
_SMALL = 20_000


class KeptMail(msgspec.Struct, frozen=True):
    """A mail as it arrived: its envelope, the parameters of MAIL, its bytes, and the way it came."""

    sender: str
    recipients: list[str]
    options: list[str]
    content: bytes
    tls: bool
    peer: tuple[Any, ...]
    greeting: str


class SmtpServer(Server):
    """A private relay that forwards nothing and keeps everything, across ``restart`` and ``kill`` too.

    ``port`` needs no login, and offers a login (``username``, ``password``), PIPELINING and SMTPUTF8;
    ``bare_port`` offers none of these, and takes mails of 20,000 bytes at most; ``login_port`` wants a login.
    With ``tls`` it also listens on ``starttls_port`` and ``tls_port``, which want a login.

    Addresses select faults: see ``smtp_daemon``.
    """

    package = "python3-aiosmtpd"
    username, password = "shop", "s3cret-relay"

    def __init__(self, *, tls: TlsFiles | None = None, ready_timeout_s: float = 30.0) -> None:
        super().__init__(ready_timeout_s=ready_timeout_s)
        self.tls = tls
        self.bare_port, self.login_port = free_port(), free_port()
        self.starttls_port, self.tls_port = free_port(), free_port()
        self._kept = self.folder / "kept.jsonl"

    @classmethod
    def missing(cls) -> str | None:
        """Return the package to install when aiosmtpd, a package of Python, is not there."""
        return None if importlib.util.find_spec("aiosmtpd") else cls.package

    @property
    def url(self) -> str:
        """Host and port, as ``relay`` takes them."""
        return f"{self.host}:{self.port}"

    def mails(self, to: str = "") -> list[KeptMail]:
        """Return every mail that has arrived since the server was made, in order; ``to`` one recipient."""
        text = self._kept.read_text() if self._kept.exists() else ""
        # A line may be incomplete while it is written, and for good if the server was killed at that moment.
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n") and to in line]
        found = [_kept(json.loads(line)) for line in lines]
        return [mail for mail in found if not to or to in mail.recipients]

    def _listeners(self) -> list[dict[str, Any]]:
        login = [self.username, self.password]
        rich = {
            "tls": "never",
            "login": login,
            "utf8": True,
            "pipelining": True,
            "size": _SIZE,
            "required": False,
        }
        bare = {**rich, "login": None, "utf8": False, "pipelining": False, "size": _SMALL}
        found = [
            {**rich, "port": self.port},
            {**bare, "port": self.bare_port},
            {**rich, "port": self.login_port, "required": True},
        ]
        if self.tls:
            files = {"certificate": str(self.tls.certificate), "key": str(self.tls.key), "required": True}
            found.append({**rich, **files, "port": self.starttls_port, "tls": "starttls"})
            found.append({**rich, **files, "port": self.tls_port, "tls": "tls"})
        return found

    def _argv(self) -> Sequence[str]:
        given = json.dumps({"kept": str(self._kept), "listeners": self._listeners()})
        program = Path(__file__).with_name("smtp_daemon.py")
        return [sys.executable, "-P", str(program), given]

    def _answers(self) -> bool:
        last = self.tls_port if self.tls else self.login_port
        socket.create_connection((HOST, last), timeout=_PROBE_TIMEOUT_S).close()
        with socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S) as probe:
            return probe.recv(64).startswith(b"220")


def _kept(line: dict[str, Any]) -> KeptMail:
    return KeptMail(
        sender=line["from"],
        recipients=line["to"],
        options=line["options"],
        content=b64decode(line["content"]),
        tls=line["tls"],
        peer=tuple(line["peer"]),
        greeting=line["greeting"],
    )
