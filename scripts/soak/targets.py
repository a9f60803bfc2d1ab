"""The backends of the soak: what an app is configured with to reach them, and what they hold in the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import pika
import psycopg
import redis

from rambla_py.testing.databases import PostgresServer
from rambla_py.testing.ports import HOST, free_port
from rambla_py.testing.servers import RabbitMqServer, RedisServer

__all__ = ["TARGETS", "Target", "held_by"]

_RECEIVER = """
import os, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
held = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        os.write(held, body + b"\\n")
        self.send_response(204)
        self.end_headers()
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *given):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
"""


class _Server(Protocol):
    host: str
    port: int

    def start(self) -> Any: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def close(self) -> None: ...


class _HttpServer:
    """A receiver that appends each body to a file, in a process of its own."""

    def __init__(self, held: Path) -> None:
        self.host, self.port, self._held = HOST, free_port(), held
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is None:
            command = [sys.executable, "-c", _RECEIVER, str(self.port), str(self._held)]
            self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"http://{self.host}:{self.port}/", timeout=1).close()
                except OSError:
                    time.sleep(0.05)
                else:
                    return
            raise RuntimeError("the receiver does not answer")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def close(self) -> None:
        self.kill()

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(15)


class Target:
    """A backend: its server, the tables of a service that reaches it at an address, and what it holds."""

    def __init__(
        self,
        name: str,
        server: _Server,
        service: Callable[[str, int], dict[str, Any]],
        found: Callable[[], list[str]],
    ) -> None:
        self.name, self.server, self.found = name, server, found
        self._service = service

    def config(self, folder: Path, host: str, port: int) -> dict[str, Any]:
        """Return the configuration of an app with the durable channel ``orders``."""
        table = self._service(host, port)
        channel = table["channels"]["orders"]
        options = {**channel.get("options", {}), "retries": 1_000_000, "backoff": {"max_s": 1.0}}
        table["channels"]["orders"] = {
            **channel,
            "durable": True,
            # Soon full of what waits, so that memory which grows is a leak.
            "max_pending": 200,
            "attempt_timeout_s": 2.0,
            "max_reconnect_s": 1.0,
            "options": options,
        }
        url = f"sqlite:///{folder / 'outbox.db'}"
        return {"rambla": {"outbox": {"url": url}}, self.name: table}


def _amqp(folder: Path, given: Any = None) -> Target:
    server = given or RabbitMqServer()

    def service(host: str, port: int) -> dict[str, Any]:
        options = {"routing_key": "soak", "declare": {"queue": {"name": "soak"}}}
        return {
            "connections": {"here": {"host": host, "port": port, "connect_timeout_s": 2.0}},
            "channels": {"orders": {"connection": "here", "options": options}},
        }

    return Target("amqp", server, service, lambda: held_by(server.url))


def held_by(url: str) -> list[str]:
    """Take all messages out of the queue of a broker."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    names = []
    for method, _, body in connection.channel().consume("soak", auto_ack=True, inactivity_timeout=2.0):
        if method is None or body is None:
            break
        names.append(_id(body))
    connection.close()
    return names


def _redis(folder: Path, given: Any = None) -> Target:
    server = given or RedisServer()

    def service(host: str, port: int) -> dict[str, Any]:
        connection = {"host": host, "port": port, "connect_timeout_s": 2.0, "read_timeout_s": 2.0}
        options = {"command": "rpush", "list": "soak"}
        return {
            "connections": {"here": connection},
            "channels": {"orders": {"connection": "here", "options": options}},
        }

    def found() -> list[str]:
        with redis.Redis.from_url(server.url) as client:
            names = [_id(body) for body in client.lrange("soak", 0, -1)]
            client.delete("soak")
        return names

    return Target("redis", server, service, found)


def _http(folder: Path, given: Any = None) -> Target:
    held = folder / "received"
    server = given or _HttpServer(held)

    def service(host: str, port: int) -> dict[str, Any]:
        return {
            "connections": {"here": {"url": f"http://{host}:{port}/", "connect_timeout_s": 2.0}},
            "channels": {"orders": {"connection": "here", "options": {"timeout_s": 2.0}}},
        }

    def found() -> list[str]:
        names = [_id(line) for line in held.read_bytes().splitlines()]
        os.truncate(held, 0)
        return names

    return Target("http", server, service, found)


def _sql(folder: Path, given: Any = None) -> Target:
    server = given or PostgresServer()

    def service(host: str, port: int) -> dict[str, Any]:
        login = f"{server.user}:{server.password}"
        url = f"postgresql+psycopg://{login}@{host}:{port}/{server.database}"
        options = {"table": "soak", "columns": ["id"]}
        return {
            "connections": {"here": {"url": url}},
            "channels": {"orders": {"connection": "here", "options": options}},
        }

    def found() -> list[str]:
        with psycopg.connect(server.url) as connection:
            names = [name for (name,) in connection.execute("SELECT id FROM soak").fetchall()]
            connection.execute("TRUNCATE soak")
        return names

    target = Target("sql", server, service, found)
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS soak (id text)")
    return target


def _id(body: bytes) -> str:
    return body.decode().rpartition('":"')[2].rstrip('"}\n')


TARGETS: dict[str, Callable[..., Target]] = {"amqp": _amqp, "redis": _redis, "http": _http, "sql": _sql}
"""By name, functions that make a target in a folder, with a server that is given or one of its own."""
