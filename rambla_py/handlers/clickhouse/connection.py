"""The live connection of a ``clickhouse`` worker: it sends batches of rows, one insert for each."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from rambla_py.errors import (
    AccessError,
    ConnectionLostError,
    DeliveryError,
    PayloadTooLargeError,
    PermanentError,
    UnknownOutcomeError,
)
from rambla_py.handlers._http.compression import compressed
from rambla_py.handlers._http.connection import APART, WebConnection
from rambla_py.handlers._http.errors import NO_ANSWER, encoding_error
from rambla_py.handlers._http.exchange import Request
from rambla_py.handlers._http.groups import grouped
from rambla_py.handlers._http.request_pool import Group, lost, unsent
from rambla_py.handlers._http.settings import LIMIT_NAME
from rambla_py.handlers._losses import Loss
from rambla_py.handlers.clickhouse.columns import Columns, column_kinds, columns_query
from rambla_py.handlers.clickhouse.definition import FAMILIES, create_statement
from rambla_py.handlers.clickhouse.encode import table_name
from rambla_py.handlers.clickhouse.errors import BadRowError, server_error
from rambla_py.handlers.clickhouse.rows import TableRows
from rambla_py.handlers.clickhouse.settings import ClickHouseOptions, ClickHouseSettings

if TYPE_CHECKING:
    from rambla_py.delivery import Delivery
    from rambla_py.handler import Link, Preflight

__all__ = ["ClickHouseConnection"]

_ANSWER_BYTES = 16_384
_NO_ROWS = b"Code: 108"
"""How newer servers answer an insert without rows, once they have checked table and rights."""
_NO_TABLE = b"Code: 60"
_ROWS_BY_NAME = 8
"""Bad rows of a batch that are taken out one by one; with more, sending halves is faster."""

_ASKED = (
    "insert_deduplication_token",
    "async_insert",
    "date_time_input_format",
    "input_format_parallel_parsing",
    "input_format_json_read_numbers_as_strings",
)
_Part = list[tuple["Delivery", list[bytes]]]


class ClickHouseConnection(WebConnection):
    """A client, the settings that the server supports, and threads for several inserts at a time."""

    settings: ClickHouseSettings

    def __init__(
        self,
        settings: ClickHouseSettings,
        options: ClickHouseOptions,
        *,
        channel: str,
        link: Link,
        name: str,
    ) -> None:
        super().__init__(settings, max_response_bytes=_ANSWER_BYTES, link=link, name=name, apart=APART)
        self.where = f"clickhouse at {self.client.where}"
        self.supported: frozenset[str] = frozenset()
        self._options, self._plans = options, options.plans(channel)
        self._table = next(iter(self._plans))
        self._rows = TableRows(self._plans, self._kinds)
        self._columns = Columns(lambda table, offset: self._asked(columns_query(table, offset)))
        self._headers = settings.login_headers()
        self._database = settings.database_parameter()  # takes the url apart

    def check(self) -> None:
        """Log in, and ask which settings the server supports; raises ``ConnectionLostError``."""
        names = ", ".join(f"'{name}'" for name in _ASKED)
        try:
            answer = self._asked(f"SELECT name FROM system.settings WHERE name IN ({names}) FORMAT TSV")
        except ConnectionLostError:
            raise
        except DeliveryError as error:
            raise ConnectionLostError(str(error)) from error
        self.supported = frozenset(answer.split())
        if self._options.async_insert and "async_insert" not in self.supported:
            raise AccessError(f"{self.where} does not support async_insert (21.11 and later do); turn it off")

    def create_tables(self) -> None:
        """Create the tables that are missing; raises ``AccessError`` if one cannot be created."""
        names = ", ".join(f"'{name}'" for name in FAMILIES)
        query = f"SELECT name FROM system.data_type_families WHERE name IN ({names}) FORMAT TSV"
        try:
            families = frozenset(self._asked(query).split())
            for plan in self._plans.values():
                if plan is not None:
                    self._asked(create_statement(plan, families))
        except ConnectionLostError:
            raise
        except PermanentError as error:
            raise AccessError(str(error)) from error
        except DeliveryError as error:
            raise ConnectionLostError(str(error)) from error

    def _kinds(self, table: str) -> dict[str, str]:
        return column_kinds(lambda offset: self._asked(columns_query(table, offset, integers=False)))

    def ping(self) -> None:
        """Make a round trip that needs the credentials."""
        self._asked("SELECT 1")

    def preflight(self, report: Preflight) -> None:
        """Report why an insert without rows is refused."""
        for table in self._plans:
            self._look(table, report)

    def _look(self, table: str, report: Preflight) -> None:
        answer = self.client.send(self._request(table, self._options, b"\n", []))
        error = server_error(answer, self.where, table=table)
        if error is None or _NO_ROWS in answer.body:
            return
        if self._options.create_table and _NO_TABLE in answer.body:
            report.would_create(f"table {table!r}")
        else:
            report.problem(str(error), hint=f"create the table {table!r}, or grant INSERT on it")

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Queue deliveries; each is settled later, from another thread."""
        self._pool.submit(*grouped(deliveries, with_headers=False))

    def _asked(self, query: str) -> str:
        timeout_s = self.settings.connect_timeout_s
        answer = self.client.send(Request("POST", self._target({}), self._headers, query.encode(), timeout_s))
        error = server_error(answer, self.where)
        if error is not None:
            raise error
        return answer.body.decode(errors="replace")

    # -- on the threads of the pool --------------------------------------------------------------------

    def _answers(self) -> bool:
        self.ping()
        return True

    def _deliver(self, group: Group) -> Sequence[Loss]:
        losses: list[Loss] = []
        for part in self._parts(group):
            losses += unsent(delivery for delivery, _ in part) if losses else self._insert(part)
        return losses

    def _parts(self, group: Group) -> Iterator[_Part]:
        """Yield deliveries with their rows, as many as fit a body; what has no valid rows fails alone."""
        limit = self.settings.max_body_bytes or sys.maxsize
        options = group[0].options  # those of the others are equal
        table = options.table or self._table
        rows_of, misfit = (
            self._rows.maker(table, options),
            self._columns.check_for(table, since=time.monotonic()),
        )
        part: _Part = []
        room = limit
        for delivery in group:
            try:
                rows = rows_of(delivery)
                error = misfit(rows)
                if error is not None:
                    raise error
                size = sum(map(len, rows)) + len(rows)
                if size > limit:
                    raise PayloadTooLargeError(size, limit, LIMIT_NAME)
            except Exception as raised:  # a user's serializer may raise anything
                delivery.failed(encoding_error(raised))
                continue
            if size > room:
                yield part
                part, room = [], limit
            part.append((delivery, rows))
            room -= size
        if part:
            yield part

    def _insert(self, part: _Part) -> list[Loss]:
        """Insert a part without the rows that the server refuses, which fail alone."""
        for _ in range(_ROWS_BY_NAME):
            try:
                error = self._refusal(part)
            except NO_ANSWER as no_answer:
                return lost([delivery for delivery, _ in part], no_answer)
            if isinstance(error, UnknownOutcomeError):
                return lost([delivery for delivery, _ in part], error)
            if not isinstance(error, BadRowError) or len(part) == 1:
                self._settle(part, error)
                return []
            at = _position(part, error.row)
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

    def _settle(self, part: _Part, error: Exception | None) -> None:
        """Settle a part by the answer to its insert; the result of a message is the number of its rows."""
        if error is not None:
            for delivery, _ in part:
                delivery.failed(error)
            return
        by_size: dict[int, list[Delivery]] = {}
        for delivery, rows in part:
            by_size.setdefault(len(rows), []).append(delivery)
        for size, deliveries in by_size.items():
            self.link.ok(deliveries, size)

    def _refusal(self, part: _Part) -> Exception | None:
        """Send the rows in one insert; return the error, None for a success; raises if there is no answer."""
        options = part[0][0].options
        table = options.table or self._table
        body = b"\n".join([row for _, rows in part for row in rows] + [b""])
        try:
            request = self._request(table, options, body, [delivery.id for delivery, _ in part])
            answer = self._send(request)
        except PermanentError as error:
            return error
        refused = server_error(answer, self.where, table=table)
        if refused is None and not answer.whole:
            return UnknownOutcomeError(f"{self.where}: the answer broke off", connection_lost=False)
        return refused

    def _request(self, table: str, options: ClickHouseOptions, body: bytes, ids: Sequence[str]) -> Request:
        parameters = {
            "query": f"INSERT INTO {table_name(table)} FORMAT JSONEachRow",
            **self._parameters(options),
        }
        if "insert_deduplication_token" in self.supported and "insert_deduplication_token" not in parameters:
            digest = hashlib.sha256("\n".join(ids).encode(errors="replace")).hexdigest()
            parameters["insert_deduplication_token"] = digest[:40]
        headers = self._headers
        if options.compression != "none" and len(body) >= options.compress_above:
            body = compressed(body, options.compression)
            headers = (*headers, ("content-encoding", options.compression))
        return Request("POST", self._target(parameters), headers, body, options.timeout_s)

    def _parameters(self, options: ClickHouseOptions) -> dict[str, str]:
        found: dict[str, str] = {}
        if "date_time_input_format" in self.supported:
            found["date_time_input_format"] = "best_effort"  # dates as JSON has them, 2026-01-31T12:00:00Z
        if "input_format_parallel_parsing" in self.supported:
            found["input_format_parallel_parsing"] = "0"  # else rows before a bad one may be written
        if "input_format_json_read_numbers_as_strings" in self.supported:
            found["input_format_json_read_numbers_as_strings"] = "1"  # decimals, also into String columns
        if options.skip_unknown:
            found["input_format_skip_unknown_fields"] = "1"
        if options.async_insert:
            found |= {"async_insert": "1", "wait_for_async_insert": "1"}
        return found | {name: _text(value) for name, value in self.settings.settings.items()}

    def _target(self, parameters: dict[str, str]) -> str:
        parameters = {**self._database, **parameters}
        return f"/?{urlencode(parameters)}" if parameters else "/"


def _position(part: _Part, row: int | None) -> int | None:
    """Return the index of the message that a row belongs to."""
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
