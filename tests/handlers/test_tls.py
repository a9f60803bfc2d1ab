"""The context that the tls table of a connection asks for."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from rambla_py.errors import AccessError
from rambla_py.tls import CaFile, CertFile, KeyFile, Verify, client_context


class Table(msgspec.Struct, frozen=True, kw_only=True):
    ca_file: CaFile = None
    cert_file: CertFile = None
    key_file: KeyFile = None
    verify: Verify = True


def test_the_certificate_and_its_name_are_checked() -> None:
    """Nothing need be said for it."""
    context = client_context(Table(), "db at here:1")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_only_false_takes_any_certificate() -> None:
    """``verify`` = false asks neither who signed it, nor for whom."""
    context = client_context(Table(verify=False), "db at here:1")
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


@pytest.mark.parametrize("key", ["ca_file", "cert_file"])
@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_a_file_that_cannot_be_used_refuses_access(key: str, content: str | None, tmp_path: Path) -> None:
    """The error says of which server, and that a file of its tls is to blame."""
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AccessError) as caught:
        client_context(Table(**{key: str(path)}), "db at here:1")
    lead = f"db at here:1: cannot read the files of the connection's tls: {key} = {str(path)!r}: "
    assert str(caught.value).startswith(lead)


def test_a_key_without_its_certificate_is_refused(tmp_path: Path) -> None:
    """Left alone, the server would be told of no certificate at all, and the error would be the server's."""
    with pytest.raises(AccessError, match=r"^db at here:1: .* key_file without the cert_file"):
        client_context(Table(key_file=str(tmp_path / "key.pem")), "db at here:1")


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    """Nobody is asked for its passphrase: on a terminal the worker would wait for ever."""
    issued = trustme.CA().issue_cert("localhost")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    plain = load_pem_private_key(issued.private_key_pem.bytes(), None)
    form = (Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2"))
    key.write_bytes(plain.private_bytes(*form))
    with pytest.raises(AccessError, match=r"key_file = .*: the key is encrypted"):
        client_context(Table(cert_file=str(certificate), key_file=str(key)), "db at here:1")
