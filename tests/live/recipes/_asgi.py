"""An ASGI application that starts its app where it is imported, and never stops it."""

from __future__ import annotations

from typing import Any

from _witness import publish, started

app = started(rate="10/s")


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Publish six messages for each request."""
    if scope["type"] == "lifespan":
        raise NotImplementedError  # as an application does that knows no lifespan
    await answer(scope, send)


async def answer(scope: dict[str, Any], send: Any) -> None:
    """Answer one request."""
    if scope["path"] != "/ready":
        publish(app, 6)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
