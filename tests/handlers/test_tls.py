"""The tls table of connections, and the SSL context that it describes."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from rambla_py._internal.tls import TlsTable, client_context, demands_certificate
from rambla_py.config.struct_fields import bare, fields_of, is_struct
from rambla_py.errors import AccessError
from rambla_py.handler import Secret
from rambla_py.handlers.kafka.settings import KafkaSettings, KafkaTls
from rambla_py.handlers.kombu.settings import KombuSettings
from rambla_py.handlers.objects.settings import ObjectsSettings
from rambla_py.registry import GROUP, find_handler
from rambla_py.sql.database import Database


def test_the_certificate_and_its_name_are_checked() -> None:
    """Nothing need be said for it."""
    context = client_context(TlsTable(), "db at here:1")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_only_false_takes_any_certificate() -> None:
    """``verify`` = false asks neither who signed it, nor for whom."""
    context = client_context(TlsTable(verify=False), "db at here:1")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_a_file_that_cannot_be_used_refuses_access(key: str, content: str | None, tmp_path: Path) -> None:
    """The error says of which server, and that a file of its tls is to blame."""
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AccessError) as caught:
        client_context(TlsTable(**{key: str(path)}), "db at here:1")
    lead = f"db at here:1: cannot read the files of the connection's tls table: {key} = {str(path)!r}: "
    assert str(caught.value).startswith(lead)


def test_a_key_without_its_certificate_is_refused(tmp_path: Path) -> None:
    """Otherwise the client would send no certificate, and the error would come from the server."""
    with pytest.raises(AccessError, match=r"^db at here:1: .* key_file, but no cert_file"):
        client_context(TlsTable(key_file=str(tmp_path / "key.pem")), "db at here:1")


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    """There is no prompt for its passphrase: on a terminal the worker would wait for ever."""
    issued = trustme.CA().issue_cert("localhost")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    plain = load_pem_private_key(issued.private_key_pem.bytes(), None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
    key.write_bytes(plain.private_bytes(*form))
    with pytest.raises(AccessError, match=r"key_file = .*: the key is encrypted"):
        client_context(TlsTable(cert_file=str(certificate), key_file=str(key)), "db at here:1")


def test_all_handlers_share_one_table() -> None:
    """A ``tls`` key of a connection is a ``TlsTable``; two handlers add a key of their own to it."""
    own: dict[str, set[str]] = {}
    for name in sorted(entry.name for entry in metadata.entry_points(group=GROUP)):
        shape = find_handler(name).Connection
        for kind in _tls_structs(shape) if is_struct(shape) else ():
            assert issubclass(kind, TlsTable), name
            own[name] = set(kind.__struct_fields__) - set(TlsTable.__struct_fields__)
    assert {name: keys for name, keys in own.items() if keys} == {"smtp": {"mode"}, "kafka": {"key_password"}}


def _tls_structs(shape: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    declared = [bare(field.type) for field in fields_of(shape) if field.key.endswith("tls")]
    kinds = [kind for one in declared for kind in get_args(one) or (one,)]
    return [kind for kind in kinds if is_struct(kind)]


@pytest.mark.parametrize(
    "make",
    [
        lambda: KafkaSettings(tls=KafkaTls(server_name="name")),
        lambda: KombuSettings(url=Secret("redis://h"), tls=TlsTable(server_name="name")),
        lambda: ObjectsSettings(url="s3://b", tls=TlsTable(server_name="name")),
        lambda: Database("mysql://h/d", tls=TlsTable(server_name="name")),
    ],
)
def test_a_key_that_the_driver_cannot_use_is_refused(make: Callable[[], object]) -> None:
    """The configuration is refused at load; the driver would ignore the key."""
    with pytest.raises(ValueError, match=r"^tls.server_name cannot be used: "):
        make()


@pytest.mark.parametrize("demanding", [True, False])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_demanded_client_certificate_is_noticed(
    demanding: bool, version: ssl.TLSVersion, tmp_path: Path
) -> None:
    """In TLS 1.3 the server refuses after the handshake; one that demands none is left alone."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = version
    authority.issue_cert("localhost").configure_cert(context)
    if demanding:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=_greet, args=(listening, context))
        server.start()
        tls = TlsTable(ca_file=str(tmp_path / "ca.pem"), server_name="localhost")
        port = listening.getsockname()[1]
        assert demands_certificate(tls, "127.0.0.1", port, timeout_s=5) is demanding
        server.join()


def _greet(listening: socket.socket, context: ssl.SSLContext) -> None:
    plain, _ = listening.accept()
    with plain, contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as secured:
        secured.sendall(b"hello")
