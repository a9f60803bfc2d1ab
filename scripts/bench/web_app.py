"""A Starlette application under uvicorn, tracked or not: ``python -m bench.web_app PORT URL BATCH_SIZE``.

``URL`` and ``BATCH_SIZE`` are those of a tracker; the URL ``none`` leaves the middleware out.
"""

from __future__ import annotations

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from rambla_py.analytics import AsgiMiddleware, Tracker

__all__: list[str] = []


async def _ok(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def main(port: int, url: str, batch_size: int) -> None:
    """Serve until the process is ended."""
    app = Starlette(routes=[Route("/items/{id}", _ok)])
    if url != "none":
        app.add_middleware(AsgiMiddleware, tracker=Tracker(url, batch_size=batch_size))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
