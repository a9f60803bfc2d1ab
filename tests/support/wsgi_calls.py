"""Calls of WSGI applications without a server."""

from __future__ import annotations

from typing import Any
from wsgiref.util import setup_testing_defaults


class WsgiServer:
    """Calls an application as a server does: reads the response, and closes it in any case."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.status = ""
        self.body = b""

    def get(self, path: str, method: str = "GET", *, most: int = 1_000, **environ: Any) -> int:
        """Request a path, and read at most so many parts of the response."""
        given = {"REQUEST_METHOD": method, "PATH_INFO": path, "REMOTE_ADDR": "203.0.113.9", **environ}
        setup_testing_defaults(given)
        body = self.app(given, self.start_response)
        self.body = b""
        try:
            for number, part in enumerate(body, 1):
                self.body += part
                if number == most:
                    break
        finally:
            if hasattr(body, "close"):
                body.close()
        return int(self.status[:3])

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.status = status
        return lambda data: None
