"""This module serves a state store over HTTP: the other end of ``HttpStore``. It needs the extra ``web``.

=======================  ==============================================  ==========================
request                  body                                            answer
=======================  ==============================================  ==========================
``GET /health``                                                          about, status, authorized
``GET /record?key=``                                                     the record, or null
``PUT /record``          ``{"record": {...}}``, times included           the record
``DELETE /record?key=``                                                  ``{"removed": 0 or 1}``
``GET /records``                                                         ``{"records": [...]}``
``POST /records``        ``{"values": {...}, "expires_s": 60 or null}``  ``{"records": [...]}``
``DELETE /records``                                                      ``{"removed": 0}``
``POST /cleanup``                                                        ``{"removed": 3}``
=======================  ==============================================  ==========================

An answer with another status than 200 has ``{"error": ..., "message": ...}``.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from rambla_py.handler import Secret, secret_text
from rambla_py.state import protocol
from rambla_py.state.errors import StateError, StateKeyError, StateTooLargeError, StateValueError
from rambla_py.state.store import StateStore

__all__ = ["MAX_BODY_BYTES", "state_app"]

MAX_BODY_BYTES = 16 * 1024 * 1024
"""How large a request may be, unless told otherwise."""

_log = logging.getLogger("rambla_py.state.server")
_T = TypeVar("_T")


class _Served:
    """The answers of one store."""

    def __init__(self, store: StateStore, token: Secret | None, max_body_bytes: int) -> None:
        self._store, self._max_body_bytes = store, max_body_bytes
        self._expected = f"Bearer {secret_text(token)}".encode() if token else None

    def routes(self) -> list[Route]:
        """Return what is served where."""
        table: list[tuple[str, str, Callable[[Request], Awaitable[Any]]]] = [
            ("GET", "/record", self._get),
            ("PUT", "/record", self._put),
            ("DELETE", "/record", self._delete),
            ("GET", "/records", self._get_all),
            ("POST", "/records", self._set_many),
            ("DELETE", "/records", self._clear),
            ("POST", "/cleanup", self._cleanup),
        ]
        health = Route("/health", self._health, methods=["GET"])
        return [
            health,
            *(Route(path, self._guarded(verb), methods=[method]) for method, path, verb in table),
        ]

    async def _health(self, request: Request) -> Response:
        """Answer anyone, so that a load balancer needs no token; the store is asked, not only the process."""
        try:
            await run_in_threadpool(self._store.get, "health")
        except StateError:
            _log.exception("the store is not well")
            return _json(protocol.Health(protocol.ABOUT, "failing", self._knows(request)), 503)
        return _json(protocol.Health(protocol.ABOUT, "ok", self._knows(request)))

    async def _get(self, request: Request) -> Any:
        return await run_in_threadpool(self._store.get, _key(request))

    async def _put(self, request: Request) -> Any:
        given = await self._body(request, protocol.Put)
        await run_in_threadpool(self._store.put, given.record)
        return given.record

    async def _delete(self, request: Request) -> Any:
        return protocol.Removed(int(await run_in_threadpool(self._store.delete, _key(request))))

    async def _get_all(self, request: Request) -> Any:
        return protocol.Records(await run_in_threadpool(self._store.get_all))

    async def _set_many(self, request: Request) -> Any:
        given = await self._body(request, protocol.Many)
        return protocol.Records(
            await run_in_threadpool(self._store.set_many, given.values, expires_s=given.expires_s)
        )

    async def _clear(self, request: Request) -> Any:
        await run_in_threadpool(self._store.clear)
        return protocol.Removed(0)

    async def _cleanup(self, request: Request) -> Any:
        return protocol.Removed(await run_in_threadpool(self._store.cleanup_expired))

    def _guarded(self, verb: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not self._knows(request):
                complaint = protocol.Complaint("StateAccessError", "a bearer token is wanted")
                return _json(complaint, 401, {"WWW-Authenticate": "Bearer"})
            try:
                return _json(await verb(request))
            except StateError as error:
                status, complaint = protocol.complaint_of(error)
                if status >= 500:
                    _log.exception("%s %s failed", request.method, request.url.path)
                return _json(complaint, status)
            except ClientDisconnect:
                return Response(status_code=400)

        return answer

    def _knows(self, request: Request) -> bool:
        if self._expected is None:
            return True
        given = request.headers.get("authorization", "").encode("latin-1")
        return hmac.compare_digest(given, self._expected)

    async def _body(self, request: Request, kind: type[_T]) -> _T:
        """Read the body as far as it may go; raises ``StateTooLargeError`` and ``StateValueError``."""
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > self._max_body_bytes:
                size = int(request.headers.get("content-length", len(data)))
                raise StateTooLargeError("", size, self._max_body_bytes, "the server's limit of a request")
        try:
            return msgspec.json.decode(bytes(data), type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise StateValueError("", "the body", str(error)) from error


def state_app(
    store: StateStore,
    *,
    token: Secret | str | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    cleanup_s: float = 0.0,
) -> Starlette:
    """Return an ASGI app that serves a store, which whoever runs the app opens and closes.

    With a ``token``, whoever asks for more than ``/health`` has to send it as a bearer token. With
    ``cleanup_s``, expired records are removed every so many seconds, while the app runs.
    """
    served = _Served(store, Secret(token) if isinstance(token, str) else token, max_body_bytes)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        cleaning = asyncio.create_task(_clean(store, cleanup_s)) if cleanup_s else None
        yield
        if cleaning is not None:
            cleaning.cancel()

    return Starlette(routes=served.routes(), lifespan=lifespan)


async def _clean(store: StateStore, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        try:
            removed = await run_in_threadpool(store.cleanup_expired)
        except StateError:
            _log.exception("expired records could not be removed")
        else:
            _log.debug("removed %d expired records", removed)


def _key(request: Request) -> str:
    key = request.query_params.get("key")
    if key is None:
        raise StateKeyError("the request has no parameter 'key'")
    return key


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(value)
    return Response(body, status_code=status, media_type="application/json", headers=headers)
