"""Read access to a ClickHouse server."""

from __future__ import annotations

from typing import Any, Final, Self
from urllib.parse import urlencode

import msgspec

from rambla_py.errors import DeliveryError, PayloadTooLargeError
from rambla_py.handlers._http.client import HttpClient
from rambla_py.handlers._http.exchange import Request
from rambla_py.handlers.clickhouse.errors import server_error
from rambla_py.handlers.clickhouse.settings import ClickHouseSettings

__all__ = ["ClickHouseReader"]

_ANSWER_BYTES: Final = 64 * 1024 * 1024
_TIMEOUT_S: Final = 60.0
_QUOTED: Final = frozenset({"Int64", "UInt64", "Nullable(Int64)", "Nullable(UInt64)"})
"""Types whose integers are strings in the JSON of old servers; a user who only reads cannot change that."""


class _Column(msgspec.Struct):
    name: str
    type: str


class _Table(msgspec.Struct):
    meta: list[_Column]
    data: list[list[Any]]


class ClickHouseReader:
    """Runs queries, by GET: to such a request the server changes nothing.

    Looks up the host when it is made; raises ``ConnectionLostError`` if nothing answers there.
    """

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client = HttpClient(settings, max_response_bytes=_ANSWER_BYTES)
        self.where = f"clickhouse at {self._client.where}"

    def __repr__(self) -> str:
        return f"<ClickHouseReader {self._client.where}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.disconnect()

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query without FORMAT, whole; raises a ``DeliveryError`` if it fails."""
        parameters = {"query": f"{query} FORMAT JSONCompact", **self._settings.database_parameter()}
        target = f"/?{urlencode(parameters)}"
        answer = self._client.send(Request("GET", target, self._settings.login_headers(), b"", _TIMEOUT_S))
        error = server_error(answer, self.where)
        if error is not None:
            raise error
        if not answer.whole:
            raise PayloadTooLargeError(len(answer.body), _ANSWER_BYTES, "the longest answer that is read")
        try:
            table = msgspec.json.decode(answer.body, type=_Table)
        except (msgspec.DecodeError, UnicodeError):
            raise DeliveryError(f"{self.where}: the answer is no JSON of ClickHouse") from None
        return [
            {
                column.name: int(value) if column.type in _QUOTED and value is not None else value
                for column, value in zip(table.meta, row, strict=True)
            }
            for row in table.data
        ]

    def disconnect(self) -> None:
        """Close all connections."""
        self._client.close()
