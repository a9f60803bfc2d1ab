"""The HTTP server of ``rambla state serve``. Needs the extra ``web``.

=======================  ==============================================  ==========================
request                  body                                            answer
=======================  ==============================================  ==========================
``GET /health``                                                          about, status, authorized
``GET /record?key=``                                                     the record, or null
``POST /record``         ``{"key": ..., "value": ...}``                  the record
``PUT /record``          ``{"record": {...}}``, stored as it is          the record
``DELETE /record?key=``                                                  ``{"removed": 0 or 1}``
``GET /records``                                                         ``{"records": [...]}``
``POST /records``        ``{"values": {...}, "expires_s": 60 or null}``  ``{"records": [...]}``
``DELETE /records``                                                      ``{"removed": 0}``
``POST /read``           ``{"keys": [...]}``                             ``{"records": [...]}``
``POST /cleanup``                                                        ``{"removed": 3}``
=======================  ==============================================  ==========================

``POST /record`` also takes ``expires_s``, ``if_absent`` and ``if_version``. In the query, ``DELETE /record``
takes ``if_version``; ``GET /records``, ``DELETE /records`` and ``POST /cleanup`` take ``prefix``.
An answer with a status other than 200 has ``{"error": ..., "message": ...}``; 409 is ``StateConflictError``.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from rambla_py.handler import Secret, secret_text
from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.json_numbers import read_json_as
from rambla_py.state import protocol
from rambla_py.state.errors import StateError, StateKeyError, StateTooLargeError, StateValueError
from rambla_py.state.store import StateStore

__all__ = ["MAX_BODY_BYTES", "REQUEST_TIMEOUT_S", "state_app"]

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Default limit of a request's body."""

REQUEST_TIMEOUT_S = 30.0
"""Default time-out of reading a request's body."""

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_log = logging.getLogger("rambla_py.state.server")
_T = TypeVar("_T")


class _Endpoints:
    """The requests that one store answers."""

    def __init__(
        self, store: StateStore, token: Secret | None, max_body_bytes: int, request_timeout_s: float
    ) -> None:
        self._store, self._max_body_bytes, self._timeout_s = store, max_body_bytes, request_timeout_s
        self._expected = f"Bearer {secret_text(token)}".encode() if token else None

    def routes(self) -> list[Route]:
        """Return the route of each request."""
        table: list[tuple[str, str, Callable[[Request], Awaitable[Any]]]] = [
            ("GET", "/record", self._get),
            ("POST", "/record", self._set),
            ("PUT", "/record", self._put),
            ("DELETE", "/record", self._delete),
            ("GET", "/records", self._get_all),
            ("POST", "/records", self._set_many),
            ("DELETE", "/records", self._clear),
            ("POST", "/read", self._get_many),
            ("POST", "/cleanup", self._cleanup),
        ]
        health = Route("/health", self._health, methods=["GET"])
        return [
            health,
            *(Route(path, self._guarded(verb), methods=[method]) for method, path, verb in table),
        ]

    async def _health(self, request: Request) -> Response:
        """Answer without a token, for load balancers; also checks the store."""
        try:
            await self._store.aget("health")
        except StateError:
            _log.exception("the store failed")
            return _json(protocol.Health(protocol.ABOUT, "failing", self._is_authorized(request)), 503)
        return _json(protocol.Health(protocol.ABOUT, "ok", self._is_authorized(request)))

    async def _get(self, request: Request) -> Any:
        return await self._store.aget(_key(request))

    async def _get_many(self, request: Request) -> Any:
        given = await self._body(request, protocol.Keys)
        return protocol.Records(list((await self._store.aget_many(given.keys)).values()))

    async def _get_all(self, request: Request) -> Any:
        return protocol.Records(await self._store.aget_all(_prefix(request)))

    async def _set(self, request: Request) -> Any:
        given = await self._body(request, protocol.One)
        return await self._store.aset(
            given.key,
            given.value,
            expires_s=given.expires_s,
            if_absent=given.if_absent,
            if_version=given.if_version,
        )

    async def _set_many(self, request: Request) -> Any:
        given = await self._body(request, protocol.Many)
        return protocol.Records(await self._store.aset_many(given.values, expires_s=given.expires_s))

    async def _put(self, request: Request) -> Any:
        given = await self._body(request, protocol.Put)
        await self._store.aput(given.record)
        return given.record

    async def _delete(self, request: Request) -> Any:
        version = request.query_params.get("if_version")
        return protocol.Removed(int(await self._store.adelete(_key(request), if_version=version)))

    async def _clear(self, request: Request) -> Any:
        await self._store.aclear(_prefix(request))
        return protocol.Removed(0)

    async def _cleanup(self, request: Request) -> Any:
        return protocol.Removed(await self._store.acleanup_expired(_prefix(request)))

    def _guarded(self, verb: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not self._is_authorized(request):
                failure = protocol.Failure("StateAccessError", "a bearer token is required")
                return _json(failure, 401, {"WWW-Authenticate": "Bearer"})
            if self._expected is None and (foreign := _foreign(request)) is not None:
                return _json(protocol.Failure("StateAccessError", foreign), 403)
            try:
                return _json(await verb(request))
            except TimeoutError:
                reason = f"the body did not arrive within {self._timeout_s:g} s"
                return _json(protocol.Failure("StateValueError", reason), 408, {"Connection": "close"})
            except StateError as error:
                status, failure = protocol.failure_of(error)
                if status >= 500:
                    _log.exception("%s %s failed", request.method, request.url.path)
                return _json(failure, status)
            except ClientDisconnect:
                return Response(status_code=400)

        return answer

    def _is_authorized(self, request: Request) -> bool:
        if self._expected is None:
            return True
        given = request.headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(given, self._expected)

    async def _body(self, request: Request, kind: type[_T]) -> _T:
        """Read the body; raises ``StateTooLargeError``, ``StateValueError`` and ``TimeoutError``."""
        data = bytearray()
        async with asyncio.timeout(self._timeout_s):
            async for piece in request.stream():
                data += piece
                if len(data) > self._max_body_bytes:
                    size = int(request.headers.get("content-length", len(data)))
                    raise StateTooLargeError(
                        "", size, self._max_body_bytes, "the server's limit of a request"
                    )
        try:
            return cast(_T, read_json_as(bytes(data), kind))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateValueError("", "the body", str(error)) from error
        except RecursionError:
            raise StateValueError("", "the body", "arrays or objects nested too deeply") from None


def state_app(
    store: StateStore,
    *,
    token: Secret | str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    request_timeout_s: float = REQUEST_TIMEOUT_S,
    cleanup_every_s: float = 0.0,
) -> Starlette:
    """Return an ASGI app that serves a store; the caller opens and closes the store.

    With a ``token``, every request but ``/health`` needs it as a bearer token. Without one, a request must
    name a loopback host (``Host``), must not come from another site (``Origin``), and a body must be
    ``application/json``, so that no web page can use the server through a browser. With ``cleanup_every_s``,
    expired records are removed at this interval, in seconds, while the app runs.
    """
    secret = Secret(token) if isinstance(token, str) else token
    endpoints = _Endpoints(store, secret, max_body_bytes, request_timeout_s)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        cleaning = asyncio.create_task(_clean(store, cleanup_every_s)) if cleanup_every_s else None
        yield
        if cleaning is not None:
            cleaning.cancel()

    return Starlette(routes=endpoints.routes(), lifespan=lifespan)


async def _clean(store: StateStore, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            removed = await store.acleanup_expired()
        except StateError:
            _log.exception("expired records could not be removed")
        else:
            _log.debug("removed %d expired records", removed)


def _foreign(request: Request) -> str | None:
    """Return why a request may come from a web page, or None."""
    host = request.headers.get("host", "")
    if not _is_loopback(host):
        return "the Host header is not a loopback address; set a token to serve other names"
    origin = request.headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        return "the Origin header is another site; set a token to accept it"
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method in ("POST", "PUT") and kind != "application/json":
        return "the Content-Type must be application/json"
    return None


def _is_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in _LOOPBACK_NAMES or (name.startswith("127.") and name.replace(".", "").isdigit())


def _key(request: Request) -> str:
    key = request.query_params.get("key")
    if key is None:
        raise StateKeyError("the request has no parameter 'key'")
    return key


def _prefix(request: Request) -> str:
    return request.query_params.get("prefix", "")


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = to_json(value)
    return Response(body, status_code=status, media_type="application/json", headers=headers)
