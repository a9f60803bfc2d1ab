"""The operations application, served with the app: ``[rambla.web] enabled = true``."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from rambla_py.app import Rambla
from rambla_py.config.schema import WebSettings
from rambla_py.errors import describe
from rambla_py.web.guard import ANY_ADDRESS
from rambla_py.web.ops import ops_app
from rambla_py.web.sockets import bind_socket, socket_path

__all__ = ["OpsServer", "serve"]

log = logging.getLogger("rambla_py.web")

_BACKLOG: Final = 64
_EVERY_ADDRESS: Final = ("0.0.0.0", "::")  # what is compared with is not bound here
_MOST_CONNECTIONS: Final = 100


def serve(app: Rambla) -> Callable[[], None]:
    """Serve the operations page while an app runs, as ``[rambla.web]`` says; return a function that ends it.

    A forked child serves its own, from its first message on. What cannot be listened on (a port that another
    process has) is one WARNING in the log, and the rest goes on.
    """
    server = OpsServer(app)
    end = app._lifecycle.accompany(server)

    def stop() -> None:
        end()
        server.stopped()

    return stop


class OpsServer:
    """A thread with an event loop of its own, while the app runs. Nothing waits for it at a stop."""

    def __init__(self, app: Rambla) -> None:
        self._app = app
        self._serving: _Serving | None = None

    def run(self, now: float) -> float | None:
        """Begin to serve, on the timer's thread; a second call does nothing."""
        doubled = self._app._lifecycle.config_in_use() is not self._app.config
        if self._serving is None and not doubled:  # the doubles of an application's tests open no port
            self._serving = _Serving(self._app, _listen(self._app))
            self._serving.start()
        return None

    @property
    def addresses(self) -> list[str]:
        """Where it listens: ``http://127.0.0.1:8421``, ``unix:/run/...``; empty before the start."""
        return [] if self._serving is None else self._serving.addresses

    def after_fork(self) -> None:
        """Close the child's copies of the sockets: the parent goes on serving on them."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.close_copies()

    def stopped(self) -> None:
        """Stop serving; returns at once."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.stop()


class _Serving:
    """One run of the server: its sockets, and the thread that answers on them."""

    def __init__(self, app: Rambla, sockets: list[socket.socket]) -> None:
        settings = app.config.rambla.web
        self._sockets = sockets
        self.addresses = [_shown(one, settings) for one in sockets]
        own = ANY_ADDRESS if settings.host in _EVERY_ADDRESS else settings.host
        page = ops_app(app, allowed_hosts=[*settings.allowed_hosts, own])
        self._servers = [uvicorn.Server(_config(page, settings, one)) for one in sockets]
        self._thread = threading.Thread(target=self._run, name="rambla web", daemon=True)

    def start(self) -> None:
        """Start the thread; an interpreter that is ending starts none."""
        if not self._sockets:
            return
        try:
            self._thread.start()
        except RuntimeError as error:
            log.debug("the operations page is not served: %s", error)
            self.close_copies()

    def stop(self) -> None:
        """Let the thread end, and remove the socket's file."""
        for server in self._servers:
            server.should_exit = server.force_exit = True
        for one in self._sockets:
            if one.family == socket.AF_UNIX:
                _remove(one)

    def close_copies(self) -> None:
        """Close the sockets, without a word to those who are connected."""
        for one in self._sockets:
            one.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # a page must not write a traceback over the application's output
            log.warning("the operations page is no longer served: %s", describe(error))

    async def _serve(self) -> None:
        servers = zip(self._servers, self._sockets, strict=True)
        await asyncio.gather(*(server.serve(sockets=[one]) for server, one in servers))


def _listen(app: Rambla) -> list[socket.socket]:
    settings = app.config.rambla.web
    found: list[socket.socket] = []
    try:
        found.append(_bind_tcp(settings.host, settings.port))
    except OSError as error:
        log.warning(
            "the operations page is not served on %s port %d: %s; set port in [rambla.web]",
            settings.host,
            settings.port,
            describe(error),
        )
    if settings.socket is not None:
        path = settings.socket
        try:
            path = socket_path(path, app.config.rambla.telemetry.name)
            found.append(bind_socket(path))
        except OSError as error:
            log.warning("the operations page is not served on the socket %s: %s", path, describe(error))
    return found


def _bind_tcp(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def _config(page: ASGIApp, settings: WebSettings, one: socket.socket) -> uvicorn.Config:
    secure = one.family != socket.AF_UNIX and settings.tls_cert is not None
    return uvicorn.Config(
        page,
        lifespan="off",
        ws="none",
        http="h11",
        loop="asyncio",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=0,
        ssl_certfile=settings.tls_cert if secure else None,
        ssl_keyfile=settings.tls_key if secure else None,
    )


def _shown(one: socket.socket, settings: WebSettings) -> str:
    if one.family == socket.AF_UNIX:
        return f"unix:{one.getsockname()}"
    host, port = one.getsockname()[:2]
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _remove(one: socket.socket) -> None:
    try:
        os.unlink(one.getsockname())
    except OSError as error:  # removed meanwhile
        log.debug("the socket's file is gone: %s", describe(error))
