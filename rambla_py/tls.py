"""This module is what the ``tls`` tables of connections share: fields, and the context they ask for."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Protocol

from msgspec import Meta

from rambla_py.errors import AccessError

__all__ = [
    "CaFile",
    "CertFile",
    "KeyFile",
    "OurCertFile",
    "OurKeyFile",
    "ServerName",
    "Verify",
    "client_context",
]

CaFile = Annotated[str | None, Meta(description="PEM file of the authorities to trust")]
CertFile = Annotated[str | None, Meta(description="PEM file of the client's certificate")]
KeyFile = Annotated[str | None, Meta(description="PEM file of the client's key")]
# Beside "how we prove who we are", as the pages of the brokers say it.
OurCertFile = Annotated[str | None, Meta(description="PEM file of our own certificate")]
OurKeyFile = Annotated[str | None, Meta(description="PEM file of its key")]
ServerName = Annotated[
    str | None, Meta(description="name that the server's certificate must have; the host when not given")
]
Verify = Annotated[bool, Meta(description="false: take any certificate; for tests only")]


class _Table(Protocol):
    """What every such table has."""

    @property
    def ca_file(self) -> str | None: ...
    @property
    def cert_file(self) -> str | None: ...
    @property
    def key_file(self) -> str | None: ...
    @property
    def verify(self) -> bool: ...


def client_context(tls: _Table, where: str) -> ssl.SSLContext:
    """Return the context that a table asks for; the system's authorities are trusted where it names none.

    Raises ``AccessError`` that names ``where`` when a file cannot be read, is not what it should be, or lacks
    its other half.
    """
    if tls.key_file is not None and tls.cert_file is None:
        raise AccessError(
            f"{where}: the connection's tls has a key_file without the cert_file that it is for"
        )
    with _reading(where, ca_file=tls.ca_file):
        context = ssl.create_default_context(cafile=tls.ca_file)
    if tls.cert_file is not None:
        with _reading(where, cert_file=tls.cert_file, key_file=tls.key_file):
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_passphrase)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def _reading(where: str, **files: str | None) -> Iterator[None]:
    """Say which file it is that cannot be used: the library names none."""
    try:
        yield
    except OSError as error:
        named = ", ".join(f"{key} = {name!r}" for key, name in files.items() if name is not None)
        raise AccessError(
            f"{where}: cannot read the files of the connection's tls: {named}: {error.strerror or error}"
        ) from error


def _no_passphrase() -> str:
    """Refuse a key that is encrypted: OpenSSL would ask for its passphrase on the terminal, and wait."""
    raise OSError("the key is encrypted, and nobody is there to ask for its passphrase")
