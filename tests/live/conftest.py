"""Fixtures of real servers for these tests."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import broker_fixtures
import database_fixtures
import object_fixtures
import outbox_databases
import outbox_relays
import pytest
import rabbitmq_fixtures
import redis_fixtures
import server_fixtures
import smtp_fixtures
import sql_fixtures
from object_worker import Bucket
from web_server import WebServer

from rambla_py.testing.s3 import MotoServer
from rambla_py.testing.servers import TlsFiles


def pytest_configure(config: pytest.Config) -> None:
    server_fixtures.register(
        config,
        broker_fixtures,
        redis_fixtures,
        object_fixtures,
        outbox_databases,
        outbox_relays,
        database_fixtures,
        rabbitmq_fixtures,
        smtp_fixtures,
        sql_fixtures,
    )


@pytest.fixture
def bucket(moto_server: MotoServer, unique_name: str) -> Iterator[Bucket]:
    made = Bucket(moto_server, f"b-{unique_name[-8:]}")
    yield made
    made.client.close()


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, Any]:
    return {"url": (tmp_path / "objects").as_uri()}


@pytest.fixture
def web_server() -> Iterator[WebServer]:
    with WebServer() as server:
        yield server


@pytest.fixture
def tls_web_server(tls_files: TlsFiles) -> Iterator[WebServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls_files.certificate, tls_files.key)
    with WebServer(tls=context) as server:
        yield server
