"""The command ``rambla state serve``."""

from __future__ import annotations

import importlib
import ipaddress
import os
import socket
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from rambla_py.cli import exit_codes
from rambla_py.cli.interrupts import heard
from rambla_py.errors import HandlerError
from rambla_py.state import StateStore, store_from_url

__all__ = ["KEY", "TOKEN", "serve"]

TOKEN: Final = "RAMBLA_STATE_TOKEN"
"""The variable of the bearer token of a server."""

KEY: Final = "RAMBLA_STATE_KEY"
"""The variable of the key that encrypts values."""

_GRACE_S = 5


def serve(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="The store: sqlite:///file, file:///folder, redis://...")
    ] = "sqlite:///state.db",
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that is not loopback needs a token.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8420,
    max_body_bytes: Annotated[int, typer.Option(min=1, help="Limit of a request's body.")] = 16 * 1024 * 1024,
    request_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, help="Time-out of reading a request's body.")
    ] = 30.0,
    cleanup: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="How often to remove expired records; 0 never."),
    ] = 600.0,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM file of the certificate; serves over TLS.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM file of the certificate's key.")
    ] = None,
) -> None:
    """Serve a state store over HTTP, for HttpStore and the state handler, until Ctrl-C or SIGTERM.

    $RAMBLA_STATE_TOKEN is the bearer token that clients must send; $RAMBLA_STATE_KEY encrypts the values.
    Without a token, requests must name a loopback host and send application/json.
    """
    token = os.environ.get(TOKEN, "")
    if not token and not _is_loopback(host):
        raise typer.BadParameter(f"{host} is not loopback: set ${TOKEN} first", param_hint="--host")
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key go together")
    try:
        store = store_from_url(url, encryption_key=os.environ.get(KEY))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"URL or ${KEY}") from None
    served = {
        "token": token or None,
        "max_body_bytes": max_body_bytes,
        "request_timeout_s": request_timeout,
        "cleanup_every_s": cleanup,
    }
    server = _server(store, served, tls_cert, tls_key)
    signals: list[int] = []
    with heard(signals.append), _listening(host, port) as listener, store:
        scheme = "https" if tls_cert else "http"
        wanted = "with a token" if token else "without a token"
        address = _shown(*listener.getsockname()[:2])
        print(f"serving {store} at {scheme}://{address} {wanted}", file=sys.stderr, flush=True)
        server.run(sockets=[listener])
    raise typer.Exit(exit_codes.BY_SIGNAL + signals[0] if signals else exit_codes.OK)


def _server(store: StateStore, served: dict[str, Any], tls_cert: Path | None, tls_key: Path | None) -> Any:
    try:
        serving = importlib.import_module("rambla_py.state.server")
        uvicorn = importlib.import_module("uvicorn")
    except ImportError as error:
        hint = "needs the extra 'web'; install it with: pip install 'rambla-py[web]'"
        raise HandlerError("state serve", f"{hint} ({error})") from error
    asgi = serving.state_app(store, **served)
    config = uvicorn.Config(
        asgi,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise typer.BadParameter(f"{tls_cert} and {tls_key}: {error}", param_hint="--tls-cert") from None
    return uvicorn.Server(config)


def _listening(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise typer.BadParameter(f"cannot listen on {_shown(host, port)}: {error}") from None
    # asyncio sets it only if the socket has its protocol, which one of create_server does not: each answer
    # would wait 40 ms for the acknowledgement of its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
