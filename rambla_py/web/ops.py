"""The operations application: status, failures, plan, metrics and probes of an app."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from rambla_py.app import Rambla
from rambla_py.errors import OptionError, RamblaError, UnknownChannelError
from rambla_py.handler import Secret
from rambla_py.telemetry.exposition import MEDIA_TYPE
from rambla_py.web.documents import Documents
from rambla_py.web.guard import Guard
from rambla_py.web.health import AsgiApp, health_app
from rambla_py.web.page import page
from rambla_py.web.processes import Processes
from rambla_py.web.sockets import AUTO
from rambla_py.web.tokens import TokenCheck

__all__ = ["ops_app"]

_HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
_NO_SOCKETS: Final = {
    "error": 'expected enabled = true and socket = "auto" in [rambla.web], to find the others'
}


def ops_app(
    app: Rambla,
    *,
    token: str | Secret | None = None,
    title: str | None = None,
    allowed_hosts: Iterable[str] | None = None,
) -> Starlette:
    """Return the operations page of an app as an ASGI application, to mount in a server of your own.

    It has ``/`` (the page), ``/status.json``, ``/failures.json``, ``/plan.json``, ``/metrics``, ``/livez``
    and ``/readyz``, all for GET and HEAD; none of them changes anything. With a ``token``, all but the last
    two want it: ``Authorization: Bearer TOKEN``, or ``/?token=TOKEN`` once in a browser, which sets a cookie.
    Without one, everyone who reaches the server may read. The ``Host`` of a request must be this machine's
    loopback, or one of ``allowed_hosts``. What is not given of the two is that of ``[rambla.web]``. ``title``
    is shown on the page; the default is the app's ``name`` in ``[rambla.telemetry]``. What makes ``/readyz``
    ready is ``required`` and ``need`` in ``[rambla.web]``.

    ``/status.json?all=1`` and ``/metrics?all=1`` also ask the other processes of this user with an app of the
    same name, where ``[rambla.web]`` gives each a socket (``socket = "auto"``).

    The application neither starts nor stops ``app``. Needs the extra ``web``. Raises ``OptionError`` for
    an empty token.

    >>> table = {"null": {"connections": {"here": {}}, "channels": {"demo": {"connection": "here"}}}}
    >>> operations = ops_app(Rambla(table), token="a-long-secret", allowed_hosts=["ops.example.com"])
    """
    settings = app.config.rambla.web
    token = settings.token if token is None else token
    routes = _Routes(app, title, token)
    html, probes = page(), _Probes(health_app(app))
    application = Starlette(
        routes=[
            Route("/", lambda request: Response(html.content, media_type="text/html")),
            Route("/status.json", routes.status),
            Route("/failures.json", routes.failures),
            Route("/plan.json", routes.plan),
            Route("/metrics", routes.metrics),
            Route("/livez", probes),
            Route("/readyz", probes),
        ]
    )
    application.add_middleware(
        Guard,
        check=None if token is None else TokenCheck(token),
        hosts=list(settings.allowed_hosts if allowed_hosts is None else allowed_hosts),
        headers={**_HEADERS, "content-security-policy": html.policy},
    )
    return application


class _Probes:
    """An ASGI application as an endpoint: a plain function would be called with a ``Request``."""

    def __init__(self, probes: AsgiApp) -> None:
        self._probes = probes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._probes(scope, receive, send)


class _Routes:
    """Endpoints; they are plain functions, which Starlette runs on threads: an outbox is read from disk."""

    def __init__(self, app: Rambla, title: str | None, token: str | Secret | None) -> None:
        self._documents = Documents(app, title)
        settings, name = app.config.rambla.web, app.config.rambla.telemetry.name
        self._all = Processes(name, token) if settings.enabled and settings.socket == AUTO else None

    def status(self, request: Request) -> Response:
        own = self._documents.status()
        if not _wants_all(request):
            return _json(own)
        return (
            _json(_NO_SOCKETS, 400)
            if self._all is None
            else _json(own | {"processes": self._all.statuses(own)})
        )

    def failures(self, request: Request) -> Response:
        query = request.query_params
        try:
            return _json(self._documents.failures(query.get("channel"), query.get("limit")))
        except (UnknownChannelError, OptionError) as error:
            return _json({"error": str(error)}, 400)

    def plan(self, request: Request) -> Response:
        try:
            return _json(self._documents.plan())
        except RamblaError as error:  # of a handler's own external_servers
            return _json({"error": self._documents.error_text(error)}, 500)

    def metrics(self, request: Request) -> Response:
        text = self._documents.metrics()
        if _wants_all(request):
            if self._all is None:
                return _json(_NO_SOCKETS, 400)
            text = self._all.metrics(text)
        return Response(text, media_type=MEDIA_TYPE)


def _wants_all(request: Request) -> bool:
    return request.query_params.get("all") == "1"


def _json(data: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(data), status, media_type="application/json")
