"""The probes ``/livez`` and ``/readyz`` as an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from rambla_py.app import Rambla
from rambla_py.errors import UnknownChannelError
from rambla_py.runtime.health import Need
from rambla_py.web.paths import local_path

__all__ = ["health_app"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = [
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
]


def health_app(app: Rambla, *, required: Iterable[str] | None = None, need: Need | None = None) -> AsgiApp:
    """Return an ASGI application with two routes for the probes of a platform: ``/livez`` and ``/readyz``.

    They answer 200, or 503 with the reasons, for GET and HEAD. ``required`` names channels without which the
    process is not ready; ``/readyz?channel=a&channel=b`` adds others, 400 for an unknown one. ``need`` is
    that of ``Rambla.health``; the defaults of both are those of ``[rambla.web]``. The application neither
    starts nor stops ``app``, and needs no token: mount it where the platform reaches it.

    Raises ``UnknownChannelError`` for ``required``, and ``OptionError`` for another ``need``.

    >>> table = {"null": {"connections": {"here": {}}, "channels": {"demo": {"connection": "here"}}}}
    >>> probes = health_app(Rambla(table), required=["demo"])
    """
    settings = app.config.rambla.web
    always = list(settings.required if required is None else required)
    need = settings.need if need is None else need
    app.health(always, need=need)  # so that a misspelt name is an error here, not in each probe

    def answer(path: str, query: str) -> tuple[int, dict[str, Any]]:
        match path:
            case "/livez":
                health = app.health()
                return _verdict("live", health.live, health.reasons)
            case "/readyz":
                try:
                    health = app.health([*always, *parse_qs(query).get("channel", ())], need=need)
                except UnknownChannelError as error:
                    return 400, {"error": str(error)}
                return _verdict("ready", health.ready, health.reasons)
        return 404, {"error": "expected /livez or /readyz"}

    async def probes(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            if scope["method"] in ("GET", "HEAD"):
                status, body = answer(local_path(scope), scope.get("query_string", b"").decode("latin-1"))
            else:
                status, body = 405, {"error": "expected GET or HEAD"}
            await _send_json(send, status, body, only_head=scope["method"] == "HEAD")
        else:
            await send({"type": "websocket.close", "code": 1000})

    return probes


def _verdict(name: str, good: bool, reasons: list[str]) -> tuple[int, dict[str, Any]]:
    return (200 if good else 503), {name: good, "reasons": [] if good else reasons}


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send_json(send: Send, status: int, body: dict[str, Any], *, only_head: bool) -> None:
    content = msgspec.json.encode(body)
    allow = [(b"allow", b"GET, HEAD")] if status == 405 else []
    headers = [*_HEADERS, *allow, (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if only_head else content})
