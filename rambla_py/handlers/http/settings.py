"""This module is what a user may write in the TOML for the ``http`` handler: typed, checked tables."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, per_channel, secret_text
from rambla_py.handlers._http.address import Endpoint
from rambla_py.handlers._http.compression import Compression
from rambla_py.handlers._http.settings import WebConnection
from rambla_py.handlers.http.headers import checked_header
from rambla_py.handlers.http.signature import key_of

__all__ = ["HttpAuth", "HttpConnection", "HttpOptions", "HttpSignature"]

_NO_PATH = re.compile(r"[ #]")


class HttpAuth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who we are: a user and a password (Basic), or a token."""

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
    """How requests are signed, as standard-webhooks.com has it: HMAC-SHA256 of id, time and body."""

    secret: Annotated[Secret, Meta(description="the key: whsec_BASE64, or any text")]
    old_secrets: Annotated[
        list[Secret], Meta(description="keys that go out of use; a signature is made with each of them too")
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


class HttpConnection(WebConnection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of an ``http`` connection: a ``url``, or its parts.

    >>> HttpConnection(host="hooks.internal", path="/in").endpoint().path
    '/in'
    """

    path: Annotated[str | None, Meta(description="where no url is given")] = None
    query: Annotated[dict[str, str | int | bool], Meta(description="added to every request's query")] = (
        msgspec.field(default_factory=dict)
    )
    auth: Annotated[
        HttpAuth | None, Meta(description="user and password, or a token; those of the url otherwise")
    ] = None
    signature: Annotated[HttpSignature | None, Meta(description="sign the body, as webhooks do")] = None
    redirects: Annotated[
        int, Meta(ge=0, le=10, description="most redirects followed: 307 and 308, to the same server only")
    ] = 0
    access_statuses: Annotated[
        list[int],
        Meta(
            description="statuses that refuse our credentials, 401 and 407: nothing is sent until they work"
        ),
    ] = msgspec.field(default_factory=lambda: [401, 407])
    ping_method: Annotated[
        Literal["HEAD", "GET", "OPTIONS", "none"],
        Meta(description="how a connection is tried before messages are sent; any answer will do"),
    ] = "HEAD"
    ping_path: Annotated[
        str | None, Meta(description="path of that request; the connection's own when not given")
    ] = None
    max_response_bytes: Annotated[int, Meta(ge=0, description="how much of an answer's body is read")] = (
        65_536
    )

    def __post_init__(self) -> None:
        WebConnection.__post_init__(self)
        if self.url is not None and self.path is not None:
            raise ValueError("both url and path; give one of them")
        for path in (self.path, self.ping_path):
            if path is not None and (
                not path.startswith("/") or not path.isprintable() or _NO_PATH.search(path)
            ):
                raise ValueError("a path that does not begin with /, or holds a blank or a #")

    def endpoint(self) -> Endpoint:
        """Return where requests go; the table's ``query`` is added to each."""
        found = WebConnection.endpoint(self)
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
        Meta(description="added to the path; an item of a list is one segment, whatever it holds"),
    ] = ""
    append_query: Annotated[
        dict[str, Any], Meta(description="added to the query; a list gives its name several times")
    ] = {}
    merge_url: Annotated[
        str, Meta(description="a relative URL, resolved against the connection's; on the same server")
    ] = ""
    timeout_s: Annotated[
        float, Meta(gt=0, description="bound of one request; attempt_timeout_s should be longer")
    ] = 10.0
    body_format: Annotated[
        Literal["single", "batch", "ndjson"],
        per_channel('one message a request; or many, as {"events", "timestamp", "size"} or as lines of JSON'),
    ] = "single"
    id_field: Annotated[
        str, per_channel('batch, ndjson: the key that carries the id in each event; "" for none')
    ] = ""
    compression: Annotated[Compression, per_channel("of bodies of at least compress_above bytes")] = "none"
    compress_above: Annotated[int, per_channel("smaller bodies go as they are", ge=0)] = 1_024
