"""Connection table and channel options of the ``http`` handler."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, per_channel, routing, secret_text
from rambla_py.handlers._http.address import Endpoint
from rambla_py.handlers._http.compression import Compression
from rambla_py.handlers._http.settings import WebSettings
from rambla_py.handlers.http.headers import checked_header
from rambla_py.handlers.http.signature import key_of

__all__ = ["HttpAuth", "HttpSettings", "HttpOptions", "HttpSignature"]

_NO_PATH = re.compile(r"[ #]")
_Status = Annotated[int, Meta(ge=300, le=599)]


class HttpAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Credentials: a user and a password (Basic), or a token."""

    username: Annotated[str | None, Meta(description="Basic: the user")] = None
    password: Annotated[Secret | None, Meta(description="Basic: the password")] = None
    token: Annotated[Secret | None, Meta(description="a token, instead of user and password")] = None
    header: Annotated[
        str,
        Meta(description='the token\'s header: "Bearer TOKEN" in Authorization, the token alone in another'),
    ] = "Authorization"

    def __post_init__(self) -> None:
        if (self.token is None) == (self.username is None):
            raise ValueError("either username and password, or token")
        checked_header(self.header, secret_text(self.token) or "")


class HttpSignature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Signatures as standard-webhooks.com defines them: HMAC-SHA256 of id, time and body."""

    secret: Annotated[Secret, Meta(description="the key: whsec_BASE64, or any string")]
    old_secrets: Annotated[
        list[Secret], Meta(description="former keys; a signature is made with each of them, too")
    ] = []
    prefix: Annotated[
        str, Meta(description="headers are PREFIX-id, PREFIX-timestamp and PREFIX-signature")
    ] = "webhook"

    def __post_init__(self) -> None:
        for secret in self.secrets():
            key_of(secret.reveal())
        checked_header(f"{self.prefix}-id", "x")

    def secrets(self) -> list[Secret]:
        """Return the keys; the newest first."""
        return [self.secret, *self.old_secrets]


class HttpSettings(WebSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of an ``http`` connection: a ``url``, or its parts.

    >>> HttpSettings(host="hooks.internal", path="/in").endpoint().path
    '/in'
    """

    path: Annotated[str | None, Meta(description="the path, without a url")] = None
    query: Annotated[
        dict[str, Secret], Meta(description="added to the query of every request; the values are secrets")
    ] = msgspec.field(default_factory=dict)
    auth: Annotated[
        HttpAuth | None, Meta(description="user and password, or a token; by default those of the url")
    ] = None
    signature: Annotated[HttpSignature | None, Meta(description="sign the body, as webhooks do")] = None
    redirects: Annotated[
        int, Meta(ge=0, le=10, description="most redirects followed: 307 and 308, to the same server only")
    ] = 0
    ping_method: Annotated[
        Literal["HEAD", "GET", "OPTIONS", "none"],
        Meta(description="the request that tests a connection before messages are sent; any answer will do"),
    ] = "HEAD"
    ping_path: Annotated[
        str | None, Meta(description="path of that request; by default that of the connection")
    ] = None
    max_response_bytes: Annotated[int, Meta(ge=0, description="bytes of an answer's body that are read")] = (
        65_536
    )

    def __post_init__(self) -> None:
        WebSettings.__post_init__(self)
        if self.url is not None and self.path is not None:
            raise ValueError("both url and path; give one of them")
        for path in (self.path, self.ping_path):
            if path is not None and (
                not path.startswith("/") or not path.isprintable() or _NO_PATH.search(path)
            ):
                raise ValueError("a path that does not begin with /, or holds a blank or a #")

    def endpoint(self) -> Endpoint:
        """Return where requests go; ``query`` is added to each."""
        found = WebSettings.endpoint(self)
        if self.path is None:
            return found
        path, _, query = self.path.partition("?")
        return found._replace(path=path, query=query)


class HttpOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of an ``http`` channel.

    >>> HttpOptions(method="PUT", append_path="orders").timeout_s
    10.0
    """

    method: Annotated[
        Literal["POST", "PUT", "PATCH", "DELETE", "GET"], Meta(description="the request's method")
    ] = "POST"
    append_path: Annotated[
        str | list[str],
        routing("added to the path; each item of a list is one segment; at most 8,000 characters"),
    ] = ""
    append_query: Annotated[dict[str, Any], routing("added to the query; a list repeats its name")] = {}
    merge_url: Annotated[
        str, routing("a relative URL, resolved against the connection's; on the same server")
    ] = ""
    timeout_s: Annotated[
        float, Meta(gt=0, le=1e9, description="limit for one request; attempt_timeout_s should be longer")
    ] = 10.0
    body_format: Annotated[
        Literal["single", "array", "batch", "ndjson"],
        per_channel(
            'one message a request, or many: as a JSON array, as {"events", "timestamp", "size"}, or as '
            "lines of JSON"
        ),
    ] = "single"
    events_field: Annotated[str, per_channel("batch: the field with the array of events")] = "events"
    timestamp_field: Annotated[
        str, per_channel('batch: the field with the time of the request; "" for none')
    ] = "timestamp"
    timestamp_unit: Annotated[
        Literal["s", "ms", "iso"],
        per_channel("batch: that time in seconds or milliseconds since 1970, or as RFC 3339 in UTC"),
    ] = "s"
    size_field: Annotated[str, per_channel('batch: the field with the number of events; "" for none')] = (
        "size"
    )
    id_field: Annotated[
        str, per_channel('all but single: the field of each event that contains the id; "" for none')
    ] = ""
    compression: Annotated[Compression, per_channel("of bodies of at least compress_above bytes")] = "none"
    compress_above: Annotated[int, per_channel("smaller bodies are not compressed", ge=0)] = 1_024
    unavailable_statuses: Annotated[
        list[_Status],
        per_channel("the server cannot take messages now: they wait without using up their retries"),
    ] = msgspec.field(default_factory=lambda: [429, 503])
    access_statuses: Annotated[
        list[_Status],
        per_channel("the credentials are refused: the channel is down, and keeps its messages"),
    ] = msgspec.field(default_factory=lambda: [401, 407])

    def __post_init__(self) -> None:
        named = [name for name in self.envelope_fields if name]
        if not self.events_field or len(set(named)) < len(named):
            raise ValueError("events_field is empty, or two fields of the batch have the same name")
        both = sorted(set(self.unavailable_statuses) & set(self.access_statuses))
        if both:
            raise ValueError(f"status {both[0]} in both unavailable_statuses and access_statuses")

    @property
    def envelope_fields(self) -> tuple[str, str, str]:
        """Names of the fields of a batch: of its events, its time and its size."""
        return self.events_field, self.timestamp_field, self.size_field
