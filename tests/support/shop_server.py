"""The shop of the examples in a process of its own, with requests to it and a look at its database."""

from __future__ import annotations

import math
import os
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from rambla_py.testing.processes import deadline
from rambla_py.testing.server_process import Server

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Expected(NamedTuple):
    """What the tiles of a page show, from the rows of the database."""

    requests: int
    p50_ms: float
    p95_ms: float
    error_share: float
    paid: dict[str, Decimal]


class ShopServer(Server):
    """The shop under uvicorn, as ``python -m shop`` starts it; its database is in its folder."""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def database(self) -> Path:
        return self.folder / "analytics.db"

    def get(self, path: str, *, host: str | None = None) -> int:
        """Send a GET on a connection of its own, with another ``Host`` if given; return the status."""
        headers = {} if host is None else {"host": host}
        return self._send(urllib.request.Request(self.url + path, headers=headers))

    def post(self, path: str, body: Any, content_type: str = "application/json") -> int:
        """Send a POST with a body of bytes, or of JSON; return the status."""
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"content-type": content_type}
        return self._send(urllib.request.Request(self.url + path, data, headers, method="POST"))

    def page(self) -> str:
        """Return the page of analytics."""
        with urllib.request.urlopen(f"{self.url}/analytics", timeout=60) as answer:
            return str(answer.read().decode())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query; none while the table or the file is not there."""
        if not self.database.exists():
            return []
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master")}
            known = any(name in tables for name in sql.split())
            return connection.execute(sql).fetchall() if known else []

    def requests(self) -> list[tuple[Any, ...]]:
        """Return method, path, status and duration of each request that was recorded."""
        return self.rows(
            "select method, path, status_code, duration_ms from api_events where event_action = 'api_request'"
        )

    def wait_for(self, table: str, number: int) -> None:
        """Wait until a table has so many rows."""
        counts = (self.rows(f"select count(*) from {table}") for _ in deadline(60, poll_s=0.05))
        assert any(count == [(number,)] for count in counts), (
            f"{table}: {self.rows(f'select * from {table}')}"
        )

    def expected(self) -> Expected:
        """Return what the page must show now, computed here from all rows."""
        found = self.requests()
        durations = sorted(row[3] for row in found)
        paid: dict[str, Decimal] = {}
        for currency, amount in self.rows(
            "select payment_currency, payment_amount from payment_events where payment_success"
        ):
            paid[currency] = paid.get(currency, Decimal(0)) + Decimal(amount)
        return Expected(
            len(found),
            durations[math.ceil(len(found) * 0.5) - 1],
            durations[math.ceil(len(found) * 0.95) - 1],
            sum(row[2] >= 500 for row in found) / len(found),
            paid,
        )

    def _send(self, request: urllib.request.Request) -> int:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def _argv(self) -> Sequence[str]:
        return [*self._environ(), sys.executable, *self._program()]

    def _environ(self) -> list[str]:
        return [
            "/usr/bin/env",
            "-C",
            str(EXAMPLES),
            f"RAMBLA_ANALYTICS_URL=sqlite:///{self.database}",
            "RAMBLA_ANALYTICS_BATCH_TIMEOUT_S=0.1",
        ]

    def _program(self) -> list[str]:
        return ["-m", "shop", "--port", str(self.port)]

    def _answers(self) -> bool:
        with socket.create_connection((self.host, self.port), timeout=1):
            return self.get("/favicon.ico") == 204


class GunicornShop(ShopServer):
    """The shop under gunicorn, with two workers that are forked after the application was loaded."""

    def _program(self) -> list[str]:
        place = f"{self.host}:{self.port}"
        options = [
            "--no-control-socket",
            "--preload",
            "--workers",
            "2",
            "--worker-class",
            "asgi",
            "--bind",
            place,
        ]
        return ["-m", "gunicorn", *options, "--log-level", "warning", "shop.app:app"]


class Chromium:
    """Debian's browser."""

    PROGRAM = "/usr/bin/chromium"

    @classmethod
    def missing(cls) -> str | None:
        """Return the Debian package to install, or None."""
        return None if os.access(cls.PROGRAM, os.X_OK) else "chromium"
