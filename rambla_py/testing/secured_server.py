"""A private server with a password or TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

from rambla_py.testing.server_process import Server

__all__ = ["SecuredServer", "TlsFiles"]

_PROBE_TIMEOUT_S = 1.0


class TlsFiles:
    """The PEM files of a server: its certificate, the certificate's key, the authority that signed it."""

    __slots__ = ("authority", "certificate", "key")

    def __init__(self, *, certificate: Path | str, key: Path | str, authority: Path | str) -> None:
        self.certificate, self.key, self.authority = Path(certificate), Path(key), Path(authority)

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a server that shows this certificate, for listeners in this process."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


class SecuredServer(Server):
    """What servers share that take a password and the files of TLS; open to anybody without them."""

    def __init__(
        self,
        *,
        password: str | None = None,
        tls: TlsFiles | None = None,
        config: Iterable[str] = (),
        ready_timeout_s: float = 30.0,
    ) -> None:
        super().__init__(config=config, ready_timeout_s=ready_timeout_s)
        self.password, self.tls = password, tls

    def _probe(self) -> socket.socket:
        """Return a connection to ask whether the server answers, with TLS where it takes nothing else."""
        plain = socket.create_connection((self.host, self.port), timeout=_PROBE_TIMEOUT_S)
        if not self.tls:
            return plain
        # This tests readiness, not identity: the files may name any host. A server that asks clients for a
        # certificate gets its own.
        context = ssl.create_default_context()
        context.load_cert_chain(self.tls.certificate, self.tls.key)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain)
