"""This module is what the ``tls`` tables of connections share: fields, and the context they ask for."""

from __future__ import annotations

import ssl
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

    Raises ``AccessError`` that names ``where`` when a file cannot be read, or is not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:
        raise AccessError(f"{where}: cannot read the files of the connection's tls: {error}") from error
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
