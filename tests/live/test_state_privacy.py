"""Tests of who can read a state store: modes of files and folders, and requests of a browser to a server."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rambla_py.state import FileStore, HttpStore, SqliteStore, StateStore
from rambla_py.testing.ports import HOST
from rambla_py.testing.state_server import StateServer

MAKERS: dict[str, Callable[[Path], StateStore]] = {
    "file": lambda folder: FileStore(folder / "new" / "state"),
    "sqlite": lambda folder: SqliteStore(folder / "new" / "state" / "s.db"),
}
JSON = {"Content-Type": "application/json"}


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the mode of everything below a folder."""
    return {str(path): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


@pytest.mark.parametrize("kind", MAKERS)
def test_what_a_store_creates_is_private(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Files 0600, folders 0700, whatever the umask; SQLite's log files too."""
    with umask(0), MAKERS[kind](tmp_path) as store:
        store.set("a", "secret")
        found = modes(tmp_path)
        assert len(found) >= 4
        for path, mode in found.items():
            assert mode == (0o700 if Path(path).is_dir() else 0o600), path
    assert caplog.messages == []


@pytest.mark.parametrize("kind", MAKERS)
def test_what_exists_keeps_its_mode_with_a_warning(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Others may have been given access on purpose; the warning names the path and what to do."""
    with MAKERS[kind](tmp_path):
        pass
    readable = tmp_path / "new" / "state" if kind == "file" else tmp_path / "new" / "state" / "s.db"
    readable.chmod(0o755 if kind == "file" else 0o644)
    with MAKERS[kind](tmp_path) as store:
        store.set("a", 1)
    assert stat.S_IMODE(readable.stat().st_mode) & 0o077
    (line,) = caplog.messages
    assert line.startswith(f"other users can read {readable} (mode 0")
    assert "run chmod" in line


@pytest.fixture(scope="module")
def open_server() -> Iterator[StateServer]:
    with StateServer() as server:
        yield server


def ask(
    server: StateServer, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=10)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    return answer.status, json.loads(data or b"null")


@pytest.mark.parametrize(
    ("method", "headers", "reason"),
    [
        ("GET", {"Host": "evil.example"}, "Host"),
        ("GET", {"Host": "127.0.0.1.evil.example:8420"}, "Host"),
        ("GET", {"Host": ""}, "Host"),
        ("GET", {"Host": "[::1"}, "Host"),
        ("GET", {"Origin": "https://evil.example"}, "Origin"),
        ("DELETE", {"Origin": "null"}, "Origin"),
        ("DELETE", {"Origin": "http://localhost:1"}, "Origin"),
        ("POST", {"Content_Type": "text/plain"}, "application/json"),
        ("POST", {"Content_Type": "application/x-www-form-urlencoded"}, "application/json"),
        ("POST", {}, "application/json"),
    ],
)
def test_a_web_page_cannot_use_a_server_without_a_token(
    open_server: StateServer, method: str, headers: dict[str, str], reason: str
) -> None:
    """Another name for the host, another site, or a body that browsers send without asking is refused."""
    with HttpStore(open_server.url) as store:
        record = store.set("a", 1)
        body = b'{"values": {"a": 2}}' if method == "POST" else None
        status, answer = ask(open_server, method, "/records", body, **headers)
        assert (status, answer["error"]) == (403, "StateAccessError")
        assert reason in answer["message"]
        assert store.get("a") == record


def test_a_program_can_use_a_server_without_a_token(open_server: StateServer) -> None:
    """By any name of loopback, with a page of the server's own origin, and with a charset."""
    kind = "application/json; charset=utf-8"
    for host in (f"localhost:{open_server.port}", f"127.0.0.1:{open_server.port}", "[::1]", "127.8.8.8"):
        body = b'{"values": {"a": 2}}'
        origin = {"Origin": f"http://{host}"}
        assert ask(open_server, "POST", "/records", body, Host=host, Content_Type=kind, **origin)[0] == 200


def test_a_request_is_bounded_in_nesting(open_server: StateServer) -> None:
    """A body that would exhaust the stack is refused by name, and the server goes on."""
    body = b'{"values": {"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}}"
    status, answer = ask(open_server, "POST", "/records", body, Content_Type="application/json")
    assert (status, answer["error"]) == (400, "StateValueError")
    assert ask(open_server, "GET", "/health")[0] == 200


def test_a_request_is_bounded_in_time() -> None:
    """A body that does not arrive is given up after ``--request-timeout``."""
    with StateServer(config=["--request-timeout", "0.3"]) as server:
        with socket.create_connection((HOST, server.port), timeout=10) as client:
            head = f"POST /records HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            answer = client.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")
        with HttpStore(server.url) as store:
            assert store.set("a", 1).value == 1
