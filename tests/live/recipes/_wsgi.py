"""A WSGI application that starts its app where it is imported, and never stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from _witness import publish, started

app = started()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Publish six messages for each request."""
    if environ["PATH_INFO"] != "/ready":
        publish(app, 6)
    start_response("200 OK", [("Content-Length", "0")])
    return []
