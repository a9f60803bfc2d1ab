"""The context that the tls table of a connection asks for."""

from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
import pytest

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
    with pytest.raises(AccessError, match=r"^db at here:1: cannot read the files of the connection's tls: "):
        client_context(Table(**{key: str(path)}), "db at here:1")
