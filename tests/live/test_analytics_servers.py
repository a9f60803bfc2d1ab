"""Each framework under its own server, tracked to a database."""

from __future__ import annotations

import http.client
import socket
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from waiting import wait_until

from rambla_py.testing.server_process import Server

KINDS = {
    "starlette": ("/items/{id}", "/api/{tenant}/items/{id}"),
    "fastapi": ("/items/{id}", "/api/{tenant}/items/{id}"),
    "flask": ("/items/<id>", "/api/<tenant>/items/<id>"),
    "django-wsgi": ("/items/<id>", "/api/<tenant>/items/<id>"),
    "django-asgi": ("/items/<id>", "/api/<tenant>/items/<id>"),
}


class AppServer(Server):
    """A framework's application under its server."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def get(self, path: str) -> int:
        """Return the status of an answer, which is read to its end."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        with closing(connection):
            connection.request("GET", path, headers={"User-Agent": "tests/1"})
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def leave(self, path: str) -> None:
        """Request a stream, and go after its first bytes."""
        with socket.create_connection((self.host, self.port), timeout=20) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
            read = b""
            while b"xxx" not in read:
                read += client.recv(4_096)

    def rows(self, query: str) -> list[tuple[object, ...]]:
        """Return rows of the database, none while it has no table."""
        file = self.folder / "events.db"
        if not file.exists():
            return []
        with closing(sqlite3.connect(file)) as database:
            try:
                return database.execute(query).fetchall()
            except sqlite3.OperationalError:
                return []

    def _argv(self) -> Sequence[str]:
        program = Path(__file__).with_name("analytics_app.py")
        return [sys.executable, str(program), self.kind, str(self.port), str(self.folder)]

    def _answers(self) -> bool:
        try:
            return self.get("/ready") == 404
        except OSError:
            return False


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[AppServer]:
    with AppServer(request.param) as server:
        yield server


def test_requests_under_a_server_are_rows(server: AppServer) -> None:
    """Templates, statuses, errors, and a client that leaves a stream."""
    item, mounted = KINDS[server.kind]
    paths = [*(f"/items/{number}" for number in range(1, 51)), "/api/acme/items/1", "/nope/x.php"]
    assert {server.get(path) for path in paths} == {200, 404}
    assert server.get("/boom?token=canary") == 500
    server.leave("/endless")
    query = (
        "SELECT path, status_code, count(*) FROM api_events WHERE event_action = 'api_request' GROUP BY 1, 2"
    )
    expected = {
        (item, 200, 50),
        (mounted, 200, 1),
        ("(no route)", 404, 1),
        ("/boom", 500, 1),
        ("/endless", 499, 1),
    }
    wait_until(lambda: set(server.rows(query)) == expected)
    errors = server.rows("SELECT error_type, path, status_code FROM backend_error_events")
    assert errors == [("KeyError", "/boom", 500)]
    known = "SELECT DISTINCT method, user_agent, ip_address FROM api_events WHERE path = '/boom' LIMIT 1"
    assert server.rows(known)[0][0] == "GET"
    if server.kind != "django-asgi":  # without a lifespan, and uvicorn ends by the signal
        assert server.get("/items/51") == 200
        expected = {(path, status, 51 if number == 50 else number) for path, status, number in expected}
    server.stop()
    assert set(server.rows(query)) == expected
    written = b"".join(file.read_bytes() for file in server.folder.glob("events.db*"))
    assert b"canary" not in written
