"""Fixtures of real servers, unique names, and proxies that break connections."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Protocol

import pytest
import trustme

from rambla_py.testing.clickhouse_server import ClickHouseServer
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.servers import RabbitMqServer, RedisServer, Server, TlsFiles


def register(config: pytest.Config, *others: ModuleType) -> None:
    """Make these fixtures and those of others known, once for all folders: a run has one server of a kind."""
    for module in (sys.modules[__name__], *others):
        if not config.pluginmanager.has_plugin(module.__name__):
            config.pluginmanager.register(module, module.__name__)


@pytest.fixture(scope="session")
def tls_authority() -> trustme.CA:
    """The authority that signs the certificates of the run."""
    return trustme.CA()


@pytest.fixture(scope="session")
def tls_files(tls_authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for localhost and 127.0.0.1, and the authority that signed it."""
    return _issued(tls_authority, tmp_path_factory.mktemp("tls"), "localhost", "127.0.0.1")


@pytest.fixture(scope="session")
def strange_tls_files(tls_authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate of the same authority for another name than any that a server of the run has."""
    return _issued(tls_authority, tmp_path_factory.mktemp("strange_tls"), "elsewhere.invalid")


def _issued(authority: trustme.CA, folder: Path, *names: str) -> TlsFiles:
    issued = authority.issue_cert(*names)
    authority.cert_pem.write_to_path(folder / "authority.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(folder / "certificate.pem", append=True)
    return TlsFiles(
        certificate=folder / "certificate.pem", key=folder / "key.pem", authority=folder / "authority.pem"
    )


@pytest.fixture(scope="session")
def rabbitmq(tls_files: TlsFiles) -> Iterator[RabbitMqServer]:
    """The run's RabbitMQ, with TLS on ``tls_url``. A test may kill, pause or alarm it: it is mended."""
    require(RabbitMqServer)
    with RabbitMqServer(tls=tls_files) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The run's Redis. A test may kill or pause it: it is mended."""
    require(RedisServer)
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_tls_server(tls_files: TlsFiles) -> Iterator[RedisServer]:
    """A Redis that takes TLS only, and wants the password ``s3cret``."""
    require(RedisServer)
    with RedisServer(password="s3cret", tls=tls_files) as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[ClickHouseServer]:
    """The run's ClickHouse, with a user ``shop`` whose password is ``right``. It is mended after each test."""
    require(ClickHouseServer)
    with ClickHouseServer(users={"shop": "right"}) as server:
        yield server


class _Installable(Protocol):
    __name__: str

    def missing(self) -> str | None:
        """Return what to install, or None when all is there."""


def require(kind: _Installable, source: str = "the Debian package") -> None:
    """Skip the test when the server's program is missing, naming its package; under CI fail it."""
    if package := kind.missing():
        reason = f"{kind.__name__} needs {source} {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _mended(request: pytest.FixtureRequest) -> Iterator[None]:
    """Mend after each test the servers that it may have broken."""
    yield
    mend_used(request, "rabbitmq", "redis_server", "redis_tls_server", "clickhouse")


def mend_used(request: pytest.FixtureRequest, *names: str) -> None:
    """Mend the servers that a test has used, of those that the fixtures name."""
    for name in names:
        if name in request.fixturenames:
            mend(request.getfixturevalue(name))


def mend(server: Server) -> None:
    """Let the server run again, whatever a test did to it."""
    if server.running:
        server.resume()
    server.start()
    if isinstance(server, RabbitMqServer) and server.memory_alarm:
        server.set_memory_alarm(False)


@pytest.fixture
def unique_name(request: pytest.FixtureRequest) -> str:
    """A name that no other test has, telling which test it was."""
    test_name = re.sub(r"\W+", "-", request.node.name)[:60].strip("-")
    return f"{test_name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def queue_name(unique_name: str) -> str:
    """The name of a queue that no other test has; it is not declared yet."""
    return f"queue-{unique_name}"


@pytest.fixture
def stream_name(unique_name: str) -> str:
    """The name of a Redis stream, or of any key, that no other test has."""
    return f"stream-{unique_name}"


@pytest.fixture
def fault_proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Make a proxy in front of a server: ``fault_proxy(rabbitmq)``; it is closed after the test.

    With ``tls=tls_files`` it speaks TLS to its clients.
    """
    with ExitStack() as open_proxies:
        yield lambda server, **how: open_proxies.enter_context(FaultProxy(server.host, server.port, **how))
