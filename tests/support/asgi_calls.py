"""Calls of ASGI applications without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What an application sent."""

    messages: list[dict[str, Any]]

    @property
    def status(self) -> int:
        return self.messages[0]["status"]

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)


def http_scope(path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    """Return the scope of a request, as a server makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"shop.example"), (b"user-agent", b"tests/1")],
        "client": ("203.0.113.9", 40_000),
        "server": ("127.0.0.1", 80),
        **more,
    }


def call(
    app: Any,
    path: str,
    method: str = "GET",
    *,
    incoming: Sequence[dict[str, Any]] = (),
    on_send: Callable[[dict[str, Any]], None] = lambda message: None,
    **more: Any,
) -> Answer:
    """Call an application once; after ``incoming`` its client sends nothing more, and stays."""
    return asyncio.run(acall(app, path, method, incoming=incoming, on_send=on_send, **more))


async def acall(
    app: Any,
    path: str,
    method: str = "GET",
    *,
    incoming: Sequence[dict[str, Any]] = (),
    on_send: Callable[[dict[str, Any]], None] = lambda message: None,
    **more: Any,
) -> Answer:
    """Do what `call` does, in a running loop."""
    left = list(incoming) or [{"type": "http.request", "body": b"", "more_body": False}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if left:
            return left.pop(0)
        return await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        on_send(message)
        sent.append(message)

    await app(http_scope(path, method, **more), receive, send)
    return Answer(sent)
