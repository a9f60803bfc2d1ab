"""Connection table and channel options of the ``jitsu`` handler."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, per_channel
from rambla_py.handlers._http.settings import WebSettings

__all__ = ["JitsuOptions", "JitsuSettings"]


class JitsuSettings(WebSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``jitsu`` connection: a ``url``, or its parts, and a write key.

    >>> JitsuSettings(url=Secret("https://data.example.com"), write_key=Secret("k:s")).target()
    '/api/s/s2s/batch'
    """

    write_key: Annotated[Secret, Meta(description="keyId:keySecret of a server key, sent in X-Write-Key")]
    path: Annotated[
        str,
        Meta(description='where batches are sent, below the path of the url; "/v1/batch" for old servers'),
    ] = "/api/s/s2s/batch"
    health_path: Annotated[
        str, Meta(description="the request that tests a connection, below the path of the url")
    ] = "/health"
    max_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=256,
            description="requests that one worker may have in flight, beside 32 of messages sent alone",
        ),
    ] = 4
    max_body_bytes: Annotated[
        int | None,
        Meta(ge=1, description="the server's limit: larger events are fatal, larger batches are split"),
    ] = 800_000

    def __post_init__(self) -> None:
        WebSettings.__post_init__(self)
        key = self.write_key.reveal()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("a write_key that is empty, or is not visible ASCII; expected keyId:keySecret")
        endpoint = self.endpoint()
        if endpoint.username is not None or endpoint.query:
            raise ValueError("a url with a user or a query; the key belongs in write_key")
        for path in (self.path, self.health_path):
            if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
                raise ValueError("a path that does not begin with /, or is not visible ASCII")

    def target(self) -> str:
        """Return the path that batches are sent to."""
        return self._below(self.path)

    def health_target(self) -> str:
        """Return the path of the request that tests a connection."""
        return self._below(self.health_path)

    def _below(self, path: str) -> str:
        return self.endpoint().path.rstrip("/") + path


class JitsuOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``jitsu`` channel.

    >>> JitsuOptions(timeout_s=5).compression
    'gzip'
    """

    timeout_s: Annotated[
        float, per_channel("limit for one request; attempt_timeout_s should be longer", gt=0, le=1e9)
    ] = 10.0
    compression: Annotated[
        Literal["none", "gzip"], per_channel("of bodies of at least compress_above bytes")
    ] = "gzip"
    compress_above: Annotated[int, per_channel("smaller bodies are not compressed", ge=0)] = 1_024
