"""The ``tls`` table of a connection, with the SSL context it describes."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from rambla_py.errors import AccessError

__all__ = [
    "CERTIFICATE_DEMANDED",
    "TlsTable",
    "client_context",
    "NO_CERTIFICATE",
    "demands_certificate",
    "refuse_keys",
    "tls_table",
]


CERTIFICATE_DEMANDED: Final = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
"""The alerts, in OpenSSL's words, of a server that demands a client certificate."""


class TlsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a server proves its identity, and how the client proves its own.

    Every handler reads this table. Where a driver cannot use a key, the connection's table refuses it with
    ``refuse_keys``.

    >>> TlsTable(ca_file="/etc/ssl/shop.pem").verify
    True
    """

    ca_file: Annotated[
        str | None,
        Meta(description="PEM file of the certificate authorities to trust"),
    ] = None
    cert_file: Annotated[str | None, Meta(description="PEM file of the client certificate")] = None
    key_file: Annotated[
        str | None, Meta(description="PEM file of its private key, where cert_file does not contain it")
    ] = None
    server_name: Annotated[
        str | None, Meta(description="name that the server's certificate must have; the host when not given")
    ] = None
    verify: Annotated[bool, Meta(description="false: accept any certificate; for tests only")] = True


def tls_table(given: bool | TlsTable) -> TlsTable | None:
    """Return the table behind a ``tls`` key: ``true`` is an empty table, ``false`` none.

    >>> tls_table(True), tls_table(False)
    (TlsTable(ca_file=None, cert_file=None, key_file=None, server_name=None, verify=True), None)
    """
    if isinstance(given, bool):
        return TlsTable() if given else None
    return given


def refuse_keys(tls: bool | TlsTable, *names: str, reason: str) -> None:
    """Raise ``ValueError`` with the reason if the table sets one of these keys.

    >>> refuse_keys(TlsTable(server_name="db"), "server_name", reason="SQLite is a file")
    Traceback (most recent call last):
    ValueError: tls.server_name cannot be used: SQLite is a file
    """
    for name in names:
        if isinstance(tls, TlsTable) and getattr(tls, name) is not None:
            raise ValueError(f"tls.{name} cannot be used: {reason}")


def client_context(tls: TlsTable, where: str) -> ssl.SSLContext:
    """Return the SSL context that a table describes.

    Raises ``AccessError`` that names ``where`` and the file if a file cannot be read, has the wrong content,
    or if a key has no certificate.
    """
    if tls.key_file is not None and tls.cert_file is None:
        raise AccessError(f"{where}: the connection's tls table has a key_file, but no cert_file")
    with _reading(where, ca_file=tls.ca_file):
        context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        with _reading(where, cert_file=tls.cert_file, key_file=tls.key_file):
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_passphrase)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


NO_CERTIFICATE: Final = (
    "the server demands a client certificate; set tls.cert_file and tls.key_file of the connection"
)
"""What an error says where the connection has no client certificate and needs one."""


def demands_certificate(tls: TlsTable, host: str, port: int, *, timeout_s: float) -> bool:
    """Return whether a server ends the handshake because the client has no certificate.

    In TLS 1.3 the server refuses after the client's last step, and a client that has written meanwhile may
    find the connection closed before it reads the alert. Here nothing is written; a server that waits for
    the client to speak is given a second.
    """
    if tls.cert_file is not None:
        return False
    context = client_context(tls, f"{host}:{port}")
    try:
        with (
            socket.create_connection((host, port), min(timeout_s, 1.0)) as plain,
            context.wrap_socket(plain, server_hostname=tls.server_name or host) as secured,
        ):
            secured.recv(1)
    except ssl.SSLError as error:
        return any(alert in str(error) for alert in CERTIFICATE_DEMANDED)
    except OSError:
        return False
    return False


@contextmanager
def _reading(where: str, **files: str | None) -> Iterator[None]:
    """Name the file in the error: the library names none."""
    try:
        yield
    except OSError as error:
        named = ", ".join(f"{key} = {name!r}" for key, name in files.items() if name is not None)
        raise AccessError(
            f"{where}: cannot read the files of the connection's tls table: {named}: "
            f"{error.strerror or error}"
        ) from error


def _no_passphrase() -> str:
    """Refuse an encrypted key: OpenSSL would ask for its passphrase on the terminal and wait."""
    raise OSError("the key is encrypted, and no passphrase can be entered")
