"""This module turns deliveries into requests: one for each, or one for many."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rambla_py.errors import PayloadTooLargeError
from rambla_py.handler import Secret, secret_text
from rambla_py.handlers._http.client import Request
from rambla_py.handlers._http.compression import compressed
from rambla_py.handlers._http.named import one_line, with_id
from rambla_py.handlers._http.settings import LIMIT_NAME
from rambla_py.handlers.http.headers import checked_header, id_text, message_headers
from rambla_py.handlers.http.settings import HttpConnection, HttpOptions
from rambla_py.handlers.http.signature import key_of, signed_headers
from rambla_py.handlers.http.target import target_of
from rambla_py.wire import embedded, media_type, wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "Requests", "auth_headers", "secrets_of"]

EVENT_PREFIX = "ce-"
"""Of the attributes of a CloudEvent, by the binding for HTTP."""

_TYPES = {"batch": "application/json", "ndjson": "application/x-ndjson"}


class Requests:
    """Makes the requests of one connection; what depends on the options alone is made once. Thread-safe."""

    def __init__(self, settings: HttpConnection, *, now: Callable[[], float] = time.time) -> None:
        self._settings, self._now = settings, now
        self._endpoint = settings.endpoint()
        self._auth = auth_headers(settings)
        signature = settings.signature
        self._keys = [key_of(secret.reveal()) for secret in signature.secrets()] if signature else []
        self._latest: tuple[HttpOptions | None, str] = (None, "")

    def one(self, delivery: Delivery) -> Request:
        """Return the request of a single message; raises what is wrong with it."""
        kind = media_type(delivery)
        kind = f"{kind}; charset=utf-8" if kind == "text/plain" else kind
        headers = wire_headers(delivery, EVENT_PREFIX, quoted=True)
        return self._request(delivery.options, id_text(delivery.id), kind, delivery.body(), headers)

    def many(self, deliveries: Sequence[Delivery], events: Sequence[bytes]) -> Request:
        """Return the request of several messages with the same options and headers."""
        first = deliveries[0]
        how = first.options.body_format
        if how == "batch":
            listed, size = b",".join(events), len(events)
            body = b'{"events":[%b],"timestamp":%d,"size":%d}' % (listed, int(self._now()), size)
        else:
            body = b"\n".join([*events, b""])
        return self._request(first.options, _name_of(deliveries), _TYPES[how], body, first.headers)

    def event(self, delivery: Delivery) -> bytes:
        """Return a message as one event of many; raises what is wrong with it."""
        value = embedded(delivery)
        event = with_id(one_line(value), value, delivery, field=delivery.options.id_field, option="id_field")
        self._check_size(len(event))
        return event

    def ping(self) -> Request:
        """Return the request that asks whether the server answers and knows us."""
        settings, where = self._settings, self._endpoint
        if settings.ping_path is not None:
            path, _, query = settings.ping_path.partition("?")
            where = where._replace(path=path, query=query)
        target = target_of(where, query_of_all=settings.query)
        headers = [*self._auth, *self._signed(f"ping-{int(self._now() * 1000)}", b"")]
        return Request(settings.ping_method, target, headers, b"", settings.connect_timeout_s)

    def redirected(self, request: Request, target: str) -> Request:
        """Return the same request for another path of the same server."""
        return Request(request.method, target, request.headers, request.body, request.timeout_s)

    def _request(
        self, options: HttpOptions, name: str, kind: str, body: bytes, headers: Mapping[str, Any]
    ) -> Request:
        self._check_size(len(body))
        found = {"content-type": kind, "idempotency-key": name}
        found.update(self._auth)
        found.update(message_headers(headers))
        if options.compression != "none" and len(body) >= options.compress_above:
            body = compressed(body, options.compression)
            found["content-encoding"] = options.compression
        found.update(self._signed(name, body))
        return Request(options.method, self._target(options), list(found.items()), body, options.timeout_s)

    def _signed(self, name: str, body: bytes) -> list[tuple[str, str]]:
        signature = self._settings.signature
        if signature is None:
            return []
        return signed_headers(self._keys, signature.prefix, name, int(self._now()), body)

    def _target(self, options: HttpOptions) -> str:
        latest, target = self._latest
        if latest is not options:
            target = target_of(
                self._endpoint,
                merge_url=options.merge_url,
                append_path=options.append_path,
                append_query=options.append_query,
                query_of_all=self._settings.query,
            )
            self._latest = (options, target)
        return target

    def _check_size(self, size: int) -> None:
        limit = self._settings.max_body_bytes
        if limit is not None and size > limit:
            raise PayloadTooLargeError(size, limit, LIMIT_NAME)


def auth_headers(settings: HttpConnection) -> tuple[tuple[str, str], ...]:
    """Return the header that says who we are; the table's wins over what stands in the URL."""
    auth, endpoint = settings.auth, settings.endpoint()
    if auth is not None and auth.token is not None:
        token = auth.token.reveal()
        plain = auth.header.lower() != "authorization"
        return (checked_header(auth.header, token if plain else f"Bearer {token}"),)
    username = auth.username if auth is not None else endpoint.username
    password = auth.password if auth is not None else endpoint.password
    if username is None:
        return ()
    return (("authorization", f"Basic {_basic(username, password)}"),)


def secrets_of(settings: HttpConnection) -> Iterator[str]:
    """Yield the texts that a server may say back to us, and that no error may hold."""
    for _, value in auth_headers(settings):
        yield value
        yield value.partition(" ")[2]
    for password in (settings.auth.password if settings.auth else None, settings.endpoint().password):
        yield secret_text(password) or ""
    for secret in settings.signature.secrets() if settings.signature is not None else ():
        yield secret.reveal()


def _basic(username: str, password: Secret | None) -> str:
    return base64.b64encode(f"{username}:{secret_text(password) or ''}".encode()).decode()


def _name_of(deliveries: Sequence[Delivery]) -> str:
    """Return the idempotency key of a request: the id of one message, or a digest of those of many."""
    if len(deliveries) == 1:
        return id_text(deliveries[0].id)
    digest = hashlib.sha256("\n".join(delivery.id for delivery in deliveries).encode())
    return digest.hexdigest()[:40]
