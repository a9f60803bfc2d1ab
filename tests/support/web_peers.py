"""The handlers over HTTP, each in front of the web server of a test."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from http_app import channel
from web_server import Reply, Seen, WebServer

from rambla_py.handler import Secret

__all__ = ["MANY", "PEERS", "Peer", "event", "numbers"]

MANY = 100


class Peer(NamedTuple):
    """A handler in front of the web server; ``timed`` is the table that has ``timeout_s``."""

    handler: str
    connection: dict[str, Any]
    options: dict[str, Any]
    ok: Reply = Reply()
    scoped: bool = True
    timed: str = "options"

    def app(self, server: WebServer, timeout_s: float = 5.0, retries: int = 0, **settings: Any) -> Any:
        """Run an app whose channel delivers what is published within 0.3 s together, without a retry."""
        connection = {**self.connection, self.address: server.url}
        options = {"retries": retries, **self.options}
        (connection if self.timed == "connection" else options)["timeout_s"] = timeout_s
        gathers = {"batch_timeout_s": 0.3, "batch_ready": MANY, "max_reconnect_s": 0.2, **settings}
        return channel(self.handler, connection, gathers, **options)

    @property
    def address(self) -> str:
        return "endpoint" if self.handler == "objects" else "url"


S3 = {"url": "s3://bucket", "region": "us-east-1", "access_key_id": "k", "secret_access_key": Secret("s")}
PEERS = {
    "http": Peer("http", {}, {}),
    "http-batch": Peer("http", {}, {"body_format": "batch"}),
    "http-ndjson": Peer("http", {}, {"body_format": "ndjson"}),
    "clickhouse": Peer("clickhouse", {}, {"table": "t"}, scoped=False),
    "objects": Peer(
        "objects",
        S3,
        {"path": "{id}", "body_format": "ndjson"},
        ok=Reply(headers={"ETag": '"tag"'}),
        scoped=False,
        timed="connection",
    ),
    "jitsu": Peer("jitsu", {"write_key": "k:s"}, {}, ok=Reply(200, b'{"ok": true}')),
}


def numbers(seen: Seen) -> list[int]:
    """Return the messages in a request; none in one that asks about the server."""
    return [int(found) for found in re.findall(rb'"n": ?(\d+)', seen.body)]


def event(number: int) -> dict[str, Any]:
    """Return a payload that every peer accepts; ``numbers`` finds it in a request."""
    return {"event": "Visit", "n": number}
