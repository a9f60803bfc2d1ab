"""This module is what a user may write in the TOML for the ``clickhouse`` handler: typed, checked tables."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import parse_qsl

import msgspec
from msgspec import Meta

from rambla_py.handler import Secret, per_channel
from rambla_py.handlers._http.compression import Compression
from rambla_py.handlers._http.settings import WebConnection

__all__ = ["ClickHouseConnection", "ClickHouseOptions"]

_NAME = re.compile(r"[A-Za-z_]\w*")
_TAKEN = frozenset({"query", "user", "password", "database", "quota_key", "session_id", "format"})


class ClickHouseConnection(WebConnection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table of a ``clickhouse`` connection: a ``url``, or its parts.

    What stands in the single fields wins over the URL, whose path may name the database.

    >>> ClickHouseConnection(url=Secret("http://shop:hunter2@db:8123/events")).login()[0]
    'shop'
    """

    port: Annotated[
        int | None, Meta(ge=1, le=65535, description="8123, or 8443 with TLS, when not given")
    ] = None
    username: Annotated[str | None, Meta(description="the server's default user when not given")] = None
    password: Annotated[Secret | None, Meta(description="password of the user")] = None
    database: Annotated[str | None, Meta(description="the user's default database when not given")] = None
    settings: Annotated[
        dict[str, str | int | float | bool],
        Meta(description="ClickHouse settings of every insert, as insert_quorum = 2"),
    ] = msgspec.field(default_factory=dict)
    max_connections: Annotated[
        int, Meta(ge=1, le=256, description="most inserts at a time of one worker")
    ] = 4

    def __post_init__(self) -> None:
        WebConnection.__post_init__(self)
        for name, value in self.settings.items():
            if not _NAME.fullmatch(name) or name in _TAKEN:
                raise ValueError(f"settings with {name!r}, which is no setting of ClickHouse")
            if isinstance(value, str) and not value.isprintable():
                raise ValueError(f"settings.{name} with control characters")
        self._from_query()

    def usual_port(self, scheme: str) -> int:
        """Return the port of ClickHouse's HTTP interface."""
        return 8443 if scheme == "https" else 8123

    def login(self) -> tuple[str | None, Secret | None]:
        """Return user and password, from the fields or the URL."""
        endpoint = self.endpoint()
        query = self._from_query()
        password = self.password or endpoint.password
        if password is None and "password" in query:
            password = Secret(query["password"])
        return self.username or endpoint.username or query.get("user"), password

    def database_name(self) -> str | None:
        """Return the database, from the field or the URL."""
        return self.database or self.endpoint().path.strip("/") or self._from_query().get("database") or None

    def _from_query(self) -> dict[str, str]:
        found = dict(parse_qsl(self.endpoint().query))
        unknown = sorted(set(found) - {"user", "password", "database"})
        if unknown:
            raise ValueError(f"a url with parameters that are not known: {', '.join(unknown)}; see settings")
        return found


class ClickHouseOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The options of a ``clickhouse`` channel.

    >>> ClickHouseOptions(table="events", id_column="id").async_insert
    False
    """

    table: Annotated[str, Meta(description="TABLE or DATABASE.TABLE; the channel's name when not given")] = ""
    id_column: Annotated[str, Meta(description='the column that is given the message\'s id; "" for none')] = (
        ""
    )
    async_insert: Annotated[
        bool,
        per_channel("let the server gather rows of many inserts; ok still means that they were written"),
    ] = False
    skip_unknown: Annotated[
        bool, per_channel("true: keys without a column are left out; false: their row is fatal")
    ] = False
    compression: Annotated[Compression, per_channel("of bodies of at least compress_above bytes")] = "gzip"
    compress_above: Annotated[int, per_channel("smaller bodies go as they are", ge=0)] = 1_024
    timeout_s: Annotated[
        float, per_channel("bound of one insert; attempt_timeout_s should be longer", gt=0)
    ] = 25.0
