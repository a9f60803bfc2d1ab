"""ASGI middleware that refuses requests of other hosts, methods and without the token."""

from __future__ import annotations

from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rambla_py._internal.host_names import address_of, ascii_host
from rambla_py.config.web_table import is_loopback
from rambla_py.web.paths import local_path
from rambla_py.web.tokens import TokenCheck, Verdict

__all__ = ["ANY_ADDRESS", "Guard"]

ANY_ADDRESS: Final = "*"
"""Among the allowed hosts: every IP address. A page of another site can have its name resolve to this
machine, but its requests carry that name; so an address is as good as the server's own."""

_METHODS: Final = ("GET", "HEAD")
_PROBES: Final = ("/livez", "/readyz")


class Guard:
    """Lets GET and HEAD requests through that are addressed to this server and bring the token.

    Probes of a platform need neither. Every answer gets ``headers``; one to HEAD has no body.
    """

    def __init__(
        self, app: ASGIApp, *, check: TokenCheck | None, hosts: Collection[str], headers: dict[str, str]
    ) -> None:
        self._app, self._check, self._headers = app, check, headers
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        only_head = scope["method"] == "HEAD"

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            elif only_head:
                message = {**message, "body": b""}
            await send(message)

        answer = self._refusal(scope)
        await (self._app if answer is None else answer)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, path = Headers(scope=scope), local_path(scope)
        if scope["method"] not in _METHODS:
            return _refused(405, "expected GET or HEAD", {"allow": ", ".join(_METHODS)})
        if path in _PROBES:
            return None
        if not self._is_own(headers.get("host", "")):
            return _refused(400, "expected another Host header: name this one in allowed_hosts")
        if self._check is None:
            return None
        query = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        given = dict(query).get("token") if path == "/" else None
        if given is not None:
            verdict = self._check.token(given)
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            return _answer(verdict) or self._entered(scope, rest)
        return _answer(self._presented(self._check, headers))

    def _presented(self, check: TokenCheck, headers: Headers) -> Verdict:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            # Servers decode headers as Latin-1; the token is compared as UTF-8.
            return check.token(token.strip().encode("latin-1").decode("utf-8", "surrogateescape"))
        cookie = _cookie(headers.get("cookie", ""), check.cookie_name)
        return "wrong" if cookie is None else check.cookie(cookie)

    def _entered(self, scope: Scope, rest: str) -> Response:
        """Return a redirect to the address without the token, with a cookie in its place."""
        assert self._check is not None
        root = scope.get("root_path", "").rstrip("/") + "/"
        answer = RedirectResponse(f"{root}?{rest}" if rest else root, 303)
        answer.set_cookie(
            self._check.cookie_name,
            self._check.cookie_value,
            path=root,
            secure=scope.get("scheme") == "https",
            httponly=True,
            samesite="strict",
        )
        return answer

    def _is_own(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        name = name if colon and port.isdigit() and not name.endswith(":") else host
        if is_loopback(name) or name.lower() in self._hosts:
            return True
        try:
            address = address_of(ascii_host(name))
        except ValueError:
            return False
        return address is not None and (ANY_ADDRESS in self._hosts or str(address) in self._hosts)


def _cookie(header: str, name: str) -> str | None:
    """Return the value of a cookie: read alone, because a malformed one of another server spoils them all."""
    for part in header.split(";"):
        if part.strip().startswith(f"{name}="):
            try:
                return SimpleCookie(part)[name].value
            except (CookieError, KeyError):
                return None
    return None


def _answer(verdict: Verdict) -> Response | None:
    if verdict == "right":
        return None
    if verdict == "too many":
        return _refused(429, "too many wrong tokens; try again in a second", {"retry-after": "1"})
    expected = "expected the token: Authorization: Bearer TOKEN, or /?token=TOKEN in a browser"
    return _refused(401, expected, {"www-authenticate": "Bearer"})


def _refused(status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": error}, status, headers)
