"""Requests made of deliveries: one for each, or one for a batch."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from rambla_py.errors import PayloadTooLargeError
from rambla_py.handler import Secret, secret_text
from rambla_py.handlers._http.compression import compressed
from rambla_py.handlers._http.exchange import Request
from rambla_py.handlers._http.groups import TRACE_FIELDS, common_headers, wrapped
from rambla_py.handlers._http.id_field import one_line, with_id
from rambla_py.handlers._http.settings import LIMIT_NAME
from rambla_py.handlers.http.headers import checked_header, id_text, message_headers
from rambla_py.handlers.http.request_path import target_of
from rambla_py.handlers.http.settings import HttpOptions, HttpSettings
from rambla_py.handlers.http.signature import key_of, signed_headers
from rambla_py.serialization.encoding import to_json
from rambla_py.serialization.wire_format import media_type, wire_headers

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery

__all__ = ["EVENT_PREFIX", "RequestEncoder", "auth_headers", "made_headers", "secrets_of"]

EVENT_PREFIX = "ce-"
"""The prefix of a CloudEvent's attributes in headers, as the HTTP binding defines it."""

_TYPES = {"array": "application/json", "batch": "application/json", "ndjson": "application/x-ndjson"}
_WITH_CONTENT = frozenset({"POST", "PUT", "PATCH"})
"""Methods that expect content: an empty one is stated (RFC 9110, 8.6), as servers answer 411 without."""


class RequestEncoder:
    """Makes the requests of one connection; what depends on the options alone is made once. Thread-safe."""

    def __init__(self, settings: HttpSettings, *, now: Callable[[], float] = time.time) -> None:
        self._settings, self._now, self._limit = settings, now, settings.max_body_bytes
        self._endpoint = settings.endpoint()
        self._auth = auth_headers(settings)
        self._query = {name: value.reveal() for name, value in settings.query.items()}
        signature = settings.signature
        self._keys = [key_of(secret.reveal()) for secret in signature.secrets()] if signature else []
        self._latest: tuple[HttpOptions | None, str] = (None, "")

    def one(self, delivery: Delivery) -> Request:
        """Return the request of one message; raises ``PermanentError``, or what its serializer raises."""
        kind = media_type(delivery)
        kind = f"{kind}; charset=utf-8" if kind == "text/plain" else kind
        headers = wire_headers(delivery, EVENT_PREFIX, quoted=True)
        return self._request(delivery.options, id_text(delivery.id), kind, delivery.body(), headers)

    def many(self, deliveries: Sequence[Delivery], events: Sequence[bytes]) -> Request:
        """Return the request of several messages with the same options and headers."""
        options = deliveries[0].options
        how = options.body_format
        if how == "ndjson":
            body = wrapped(events, b"\n", end=b"\n")
        elif how == "array":
            body = wrapped(events, b",", b"[", b"]")
        else:
            body = wrapped(events, b",", *_envelope(options, len(events), self._now()))
        headers = common_headers(deliveries)
        return self._request(options, _name_of(deliveries), _TYPES[how], body, headers)

    def event(self, delivery: Delivery) -> bytes:
        """Return a message as one event of a batch; raises as ``one`` does."""
        event = one_line(delivery.body())
        field = delivery.options.id_field
        if field:
            event = with_id(event, delivery, field=field, option="id_field")
        return event

    def ping(self) -> Request:
        """Return the request that tests whether the server answers and accepts the credentials."""
        settings, where = self._settings, self._endpoint
        if settings.ping_path is not None:
            path, _, query = settings.ping_path.partition("?")
            where = where._replace(path=path, query=query)
        target = target_of(where, fixed_query=self._query)
        headers = [*self._auth, *self._signed(f"ping-{int(self._now() * 1000)}", b"")]
        return Request(settings.ping_method, target, headers, b"", settings.connect_timeout_s)

    def redirected(self, request: Request, target: str) -> Request:
        """Return the same request for another path of the same server."""
        return msgspec.structs.replace(request, target=target)

    def traced(self, request: Request, trace: Mapping[str, str]) -> Request:
        """Return the same request with the headers of a trace in place of those of its messages."""
        headers = [pair for pair in request.headers if pair[0] not in TRACE_FIELDS and pair[0] not in trace]
        headers += trace.items()
        return msgspec.structs.replace(request, headers=headers)

    def _request(
        self, options: HttpOptions, name: str, kind: str, body: bytes, headers: Mapping[str, Any]
    ) -> Request:
        self._check_size(len(body))
        found = {"content-type": kind, "idempotency-key": name}
        found.update(self._auth)
        latin1 = False
        if headers:
            own = dict(message_headers(headers))
            latin1 = not "".join(own.values()).isascii()
            found.update(own)
        if options.compression != "none" and len(body) >= options.compress_above:
            body = compressed(body, options.compression)
            found["content-encoding"] = options.compression
        if not body and options.method in _WITH_CONTENT:
            found["content-length"] = "0"
        found.update(self._signed(name, body))
        target, pairs = self._target(options), list(found.items())
        return Request(options.method, target, pairs, body, options.timeout_s, latin1)

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
                fixed_query=self._query,
            )
            self._latest = (options, target)
        return target

    def _check_size(self, size: int) -> None:
        if self._limit is not None and size > self._limit:
            raise PayloadTooLargeError(size, self._limit, LIMIT_NAME)


def _envelope(options: HttpOptions, size: int, now: float) -> tuple[bytes, bytes]:
    """Return what goes before and after the events of a batch; a field without a name is left out."""
    if options.timestamp_unit == "iso":
        timestamp = to_json(datetime.fromtimestamp(int(now), UTC))
    else:
        timestamp = b"%d" % int(now * (1000 if options.timestamp_unit == "ms" else 1))
    pairs = ((options.timestamp_field, timestamp), (options.size_field, b"%d" % size))
    rest = b"".join(b",%b:%b" % (to_json(name), value) for name, value in pairs if name)
    return b"{%b:[" % to_json(options.events_field), b"]%b}" % rest


def auth_headers(settings: HttpSettings) -> tuple[tuple[str, str], ...]:
    """Return the header with the credentials; those of ``auth`` win over those of the URL."""
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


def made_headers(settings: HttpSettings) -> Iterator[str]:
    """Yield the names of the headers that the connection makes: credentials and signatures."""
    for name, _ in auth_headers(settings):
        yield name
    if settings.signature is not None:
        yield f"{settings.signature.prefix}-*"


def secrets_of(settings: HttpSettings) -> Iterator[str]:
    """Yield the strings that a server may echo, and that must not be part of any error."""
    for _, value in auth_headers(settings):
        yield value
        yield value.partition(" ")[2]
    for password in (settings.auth.password if settings.auth else None, settings.endpoint().password):
        yield secret_text(password) or ""
    of_signature = settings.signature.secrets() if settings.signature is not None else []
    for secret in (*of_signature, *settings.query.values()):
        yield secret.reveal()


def _basic(username: str, password: Secret | None) -> str:
    return base64.b64encode(f"{username}:{secret_text(password) or ''}".encode()).decode()


def _name_of(deliveries: Sequence[Delivery]) -> str:
    """Return the idempotency key of a request: the id of one message, or a digest of those of many."""
    if len(deliveries) == 1:
        return id_text(deliveries[0].id)
    digest = hashlib.sha256("\n".join([delivery.id for delivery in deliveries]).encode())
    return digest.hexdigest()[:40]
