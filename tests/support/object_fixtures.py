"""Fixtures of object stores, and what is kept in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from object_server import ObjectServer
from server_fixtures import mend_used, require

from rambla_py.testing.s3 import MotoServer
from rambla_py.testing.servers import TlsFiles

REGION = "us-east-1"
KEYS = {"access_key_id": "test-key", "secret_access_key": "test-secret"}


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    """The run's S3, which takes any credentials."""
    require(MotoServer)
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def moto_tls_server(tls_files: TlsFiles) -> Iterator[MotoServer]:
    """An S3 that takes TLS only."""
    require(MotoServer)
    with MotoServer(tls=tls_files) as server:
        yield server


@pytest.fixture(scope="session")
def moto_iam_server() -> Iterator[MotoServer]:
    """An S3 that takes the credentials of its own users only; it has none."""
    require(MotoServer)
    with MotoServer(open_actions=0) as server:
        yield server


@pytest.fixture(scope="session")
def gs_server() -> Iterator[ObjectServer]:
    """The run's server of Google's protocol."""
    with ObjectServer("gs") as server:
        yield server


@pytest.fixture(scope="session")
def az_server() -> Iterator[ObjectServer]:
    """The run's server of Azure's protocol."""
    with ObjectServer("az") as server:
        yield server


@pytest.fixture(autouse=True)
def _mended_stores(request: pytest.FixtureRequest) -> Iterator[None]:
    """Mend after each test the stores that it may have broken."""
    yield
    mend_used(request, "moto_server", "gs_server", "az_server")


def s3_client(server: MotoServer, **keys: str) -> Any:
    """Return a client of boto3: another implementation than the one under test."""
    keys = keys or KEYS
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        region_name=REGION,
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
        config=Config(retries={"max_attempts": 1}, max_pool_connections=32),
    )
