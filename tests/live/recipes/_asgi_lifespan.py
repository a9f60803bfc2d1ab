"""An ASGI application whose app lives from lifespan's start-up to its shutdown."""

from __future__ import annotations

from typing import Any

from _witness import publish, table

from rambla_py import Rambla

app = Rambla(table())


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Publish six messages for each request; start and stop the app with the server."""
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    if scope["path"] != "/ready":
        publish(app, 6)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def live(receive: Any, send: Any) -> None:
    """Hold the app open between the two messages of the protocol."""
    await receive()
    async with app:
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
