"""This module gives tests a mail relay of their own, with TLS, logins, and addresses that make trouble."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from server_fixtures import mend, require

from rambla_py.testing import SmtpServer, TlsFiles


@pytest.fixture(scope="session")
def smtp_run(tls_files: TlsFiles) -> Iterator[SmtpServer]:
    """The run's relay; tests take ``smtp_server``."""
    require(SmtpServer, "aiosmtpd from PyPI, or the Debian package")
    with SmtpServer(tls=tls_files) as server:
        yield server


@pytest.fixture
def smtp_server(smtp_run: SmtpServer) -> Iterator[SmtpServer]:
    """The run's relay. A test may kill or pause it: it is mended."""
    yield smtp_run
    mend(smtp_run)
