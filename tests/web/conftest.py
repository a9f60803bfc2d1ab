"""The operations application under uvicorn."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import server_fixtures
import uvicorn
from small_apps import TIMEOUT_S, until

from rambla_py import Rambla
from rambla_py.web import ops_app


def pytest_configure(config: pytest.Config) -> None:
    server_fixtures.register(config)


class Served:
    """The operations application of an app on a free port of loopback."""

    def __init__(self, app: Rambla) -> None:
        options: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "lifespan": "off", "log_config": None}
        self._server = uvicorn.Server(uvicorn.Config(ops_app(app), **options))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        assert until(lambda: self._server.started)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"

    def stop(self) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(TIMEOUT_S)


@pytest.fixture
def serve() -> Iterator[Callable[[Rambla], Served]]:
    with ExitStack() as stack:

        def start(app: Rambla) -> Served:
            served = Served(app)
            stack.callback(served.stop)
            return served

        yield start
