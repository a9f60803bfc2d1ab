"""Fixtures of a mail relay, with TLS, logins, and addresses that it refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from server_fixtures import mend, require

from rambla_py.testing import SmtpServer, TlsFiles
from rambla_py.testing.smtp_server import KeptMail


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


@pytest.fixture
def ann(unique_name: str) -> str:
    """An address of this test's own."""
    return f"ann-{unique_name[-30:].strip('-')}@example.com"


@pytest.fixture
def arrived(smtp_server: SmtpServer, ann: str) -> Callable[[], list[KeptMail]]:
    """What the test's own address got."""
    return lambda: smtp_server.mails(ann)


@pytest.fixture(params=["pipelining", "bare"])
def port(request: pytest.FixtureRequest, smtp_server: SmtpServer) -> int:
    """A port that takes commands in one write, and one that wants to be waited for."""
    return smtp_server.port if request.param == "pipelining" else smtp_server.bare_port
