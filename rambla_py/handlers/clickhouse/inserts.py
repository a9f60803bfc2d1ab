"""This module carries batches of rows to a ClickHouse server, one insert for each."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    UnknownOutcomeError,
)
from rambla_py.handler import secret_text
from rambla_py.handlers._http.carrier import Carrier
from rambla_py.handlers._http.client import Request
from rambla_py.handlers._http.compression import compressed
from rambla_py.handlers._http.groups import alike
from rambla_py.handlers._http.lanes import Group, Loss, lost, unsent
from rambla_py.handlers._http.settings import LIMIT_NAME
from rambla_py.handlers.clickhouse.errors import BadRowError, server_error
from rambla_py.handlers.clickhouse.rows import rows_of, table_name
from rambla_py.handlers.clickhouse.settings import ClickHouseConnection, ClickHouseOptions

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link

__all__ = ["Inserts"]

_ANSWER_BYTES = 16_384
_ROWS_BY_NAME = 8
"""So many bad rows of a batch are taken out one by one; with more, halves are quicker."""

_ASKED = (
    "insert_deduplication_token",
    "async_insert",
    "date_time_input_format",
    "input_format_parallel_parsing",
)
_Part = list[tuple["Delivery", list[bytes]]]


class Inserts(Carrier):
    """The connection of one worker: a client, what the server knows, lanes for several inserts at a time."""

    settings: ClickHouseConnection

    def __init__(
        self,
        settings: ClickHouseConnection,
        options: ClickHouseOptions,
        *,
        channel: str,
        link: Link,
        name: str,
    ) -> None:
        super().__init__(settings, max_response_bytes=_ANSWER_BYTES, link=link, name=name)
        self.where = f"clickhouse at {self.client.where}"
        self.known: frozenset[str] = frozenset()
        self._options, self._channel = options, channel
        username, password = settings.login()
        login = (("x-clickhouse-user", username), ("x-clickhouse-key", secret_text(password)))
        self._headers = tuple((key, value) for key, value in login if value is not None)

    def check(self) -> None:
        """Log in, and learn which settings the server knows; raises ``ConnectionLostError`` otherwise."""
        names = ", ".join(f"'{name}'" for name in _ASKED)
        try:
            answer = self._asked(f"SELECT name FROM system.settings WHERE name IN ({names}) FORMAT TSV")
        except ConnectionLostError:
            raise
        except DeliveryError as error:
            raise ConnectionLostError(str(error)) from error
        self.known = frozenset(answer.split())
        if self._options.async_insert and "async_insert" not in self.known:
            raise AccessError(f"{self.where} does not know async_insert (21.11 and later do); turn it off")

    def ping(self) -> None:
        """Make a round trip that asks for the credentials too."""
        self._asked("SELECT 1")

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries; each is settled later, from another thread."""
        self._lanes.submit(alike(deliveries, with_headers=False))

    def _asked(self, query: str) -> str:
        timeout_s = self.settings.connect_timeout_s
        answer = self.client.send(Request("POST", self._target({}), self._headers, query.encode(), timeout_s))
        error = server_error(answer, self.where)
        if error is not None:
            raise error
        return answer.body.decode(errors="replace")

    # -- on the lanes ----------------------------------------------------------------------------------

    def _carry(self, group: Group) -> Sequence[Loss]:
        losses: list[Loss] = []
        for part in self._parts(group):
            losses += unsent(delivery for delivery, _ in part) if losses else self._insert(part)
        return losses

    def _parts(self, group: Group) -> Iterator[_Part]:
        """Yield deliveries with their rows, as many as fit a body; what cannot be rows fails alone."""
        limit = self.settings.max_body_bytes or sys.maxsize
        part: _Part = []
        room = limit
        for delivery in group:
            try:
                rows = rows_of(delivery, delivery.options.id_column)
                size = sum(len(row) + 1 for row in rows)
                if size > limit:
                    raise PayloadTooLargeError(size, limit, LIMIT_NAME)
            except Exception as error:  # a serializer of the user's may raise anything
                delivery.failed(error)
                continue
            if size > room:
                yield part
                part, room = [], limit
            part.append((delivery, rows))
            room -= size
        if part:
            yield part

    def _insert(self, part: _Part) -> list[Loss]:
        """Insert a part, without the rows that the server refuses, which fail alone."""
        for _ in range(_ROWS_BY_NAME):
            error = self._sent(part)
            if not isinstance(error, BadRowError) or len(part) == 1:
                return _settled(part, error)
            at = _place(part, error.row)
            if at is None:
                break
            part[at][0].failed(error)
            part = part[:at] + part[at + 1 :]
        middle = len(part) // 2
        if not middle:
            return self._insert(part)
        losses = self._insert(part[:middle])
        if losses:
            return losses + unsent(delivery for delivery, _ in part[middle:])
        return self._insert(part[middle:])

    def _sent(self, part: _Part) -> Exception | None:
        """Send the rows in one insert; return what went wrong with it."""
        options = part[0][0].options
        body = b"\n".join([row for _, rows in part for row in rows] + [b""])
        try:
            request = self._request(options, body, [delivery.id for delivery, _ in part])
            answer = self.client.send(request)
        except DeliveryError as error:
            return error
        refused = server_error(answer, self.where)
        if refused is None and not answer.whole:
            return UnknownOutcomeError(f"{self.where}: the answer broke off")
        return refused

    def _request(self, options: ClickHouseOptions, body: bytes, ids: Sequence[str]) -> Request:
        table = table_name(options.table or self._channel)
        parameters = {"query": f"INSERT INTO {table} FORMAT JSONEachRow", **self._parameters(options)}
        if "insert_deduplication_token" in self.known and "insert_deduplication_token" not in parameters:
            digest = hashlib.sha256("\n".join(ids).encode(errors="replace")).hexdigest()
            parameters["insert_deduplication_token"] = digest[:40]
        headers = self._headers
        if options.compression != "none" and len(body) >= options.compress_above:
            body = compressed(body, options.compression)
            headers = (*headers, ("content-encoding", options.compression))
        return Request("POST", self._target(parameters), headers, body, options.timeout_s)

    def _parameters(self, options: ClickHouseOptions) -> dict[str, str]:
        found: dict[str, str] = {}
        if "date_time_input_format" in self.known:
            found["date_time_input_format"] = "best_effort"  # dates as JSON has them, 2026-01-31T12:00:00Z
        if "input_format_parallel_parsing" in self.known:
            found["input_format_parallel_parsing"] = "0"  # else rows before a bad one may be written
        if options.skip_unknown:
            found["input_format_skip_unknown_fields"] = "1"
        if options.async_insert:
            found |= {"async_insert": "1", "wait_for_async_insert": "1"}
        return found | {name: _text(value) for name, value in self.settings.settings.items()}

    def _target(self, parameters: dict[str, str]) -> str:
        database = self.settings.database_name()
        if database is not None:
            parameters = {"database": database, **parameters}
        return f"/?{urlencode(parameters)}" if parameters else "/"


def _settled(part: _Part, error: Exception | None) -> list[Loss]:
    """Settle a part by the answer to its insert; a loss is handed back instead."""
    if isinstance(error, ConnectionLostError | UnknownOutcomeError):
        return lost([delivery for delivery, _ in part], error)
    for delivery, rows in part:
        if error is None:
            delivery.ok(len(rows))
        else:
            delivery.failed(error)
    return []


def _place(part: _Part, row: int | None) -> int | None:
    """Return which message of a part a row belongs to."""
    if row is None or row < 0:
        return None
    before = 0
    for at, (_, rows) in enumerate(part):
        before += len(rows)
        if row < before:
            return at
    return None


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)
