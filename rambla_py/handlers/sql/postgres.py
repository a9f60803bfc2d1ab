"""This module writes rows to PostgreSQL, by COPY or by one INSERT of arrays."""

from __future__ import annotations

import select
import struct
from collections.abc import Sequence
from typing import Any

from psycopg.adapt import Dumper, PyFormat, Transformer
from psycopg.pq import Format

from rambla_py.handlers.sql.statements import Statements
from rambla_py.handlers.sql.writers import Row, TransactionWriter, unknown
from rambla_py.sql.errors import SqlConnectionLostError
from rambla_py.sql.mapping import sql_error

__all__ = ["PostgresWriter"]

# Without their length, which an assignment checks and a cast would cut to: that is what -1 says. A domain
# counts as what it is made of, for the same reason.
_TYPES = """
    WITH RECURSIVE kind AS (
        SELECT attname, atttypid AS oid FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0
        UNION ALL
        SELECT attname, typbasetype FROM kind JOIN pg_type USING (oid) WHERE typtype = 'd'
    )
    SELECT attname, format_type(oid, -1) FROM kind JOIN pg_type USING (oid) WHERE typtype <> 'd'
"""

_TEXT, _TEXT_ARRAY = 25, 1009
_head = struct.Struct("!iiIii").pack
_length = struct.Struct("!i").pack
_NULL = b"\xff\xff\xff\xff"

_LOOKS = 3
"""What a server says before it closes comes first, and the end of the connection at the next look."""


class PostgresWriter(TransactionWriter):
    """Writes by COPY; where rows replace others, or COPY is not wanted, by one INSERT of arrays.

    Outside of a transaction either is one by itself, which saves two exchanges a batch. The INSERT takes a
    column as an array of texts and lets the server read them as COPY does: three times as many rows a second
    as an INSERT of many values, half as many again as COPY into a temporary table and an INSERT from there.
    """

    def __init__(
        self, raw: Any, texts: Statements, names: Sequence[str], *, copy: bool, upsert_on: str | None
    ) -> None:
        self._cursor = raw.cursor()
        super().__init__(raw, texts, self._cursor.execute)
        self._upsert_at = None if upsert_on is None else names.index(upsert_on)
        self._copies = copy and upsert_on is None
        # Behind a pooler of transactions the next statement may meet a session that knows of none.
        self._prepares = None if copy else False
        if not self._copies:
            self._cursor.adapters.register_dumper(_Texts, _TextsDumper)
            types = self._types()
            self._poll = select.poll()
            self._poll.register(raw.fileno(), select.POLLIN)
            self._insert = texts.insert_arrays([types[name] for name in names])

    def write_all(self, rows: Sequence[Row]) -> None:
        """Write rows in a transaction of their own: all of them, or none."""
        if not self._copies:
            self._insert_all(rows)
            return
        ended = False
        try:
            with self._cursor.copy(self._texts.copy) as copy:
                add = copy.write_row
                for row in rows:
                    add(row)
                ended = True
        except Exception as error:
            mapped = sql_error(error)
            if ended and isinstance(mapped, SqlConnectionLostError):
                raise unknown(mapped) from error
            raise mapped from error

    def _insert_all(self, rows: Sequence[Row]) -> None:
        self._check_connected()
        try:
            self.write(rows)
        except SqlConnectionLostError as error:
            if error.code:  # the server has ended it, and says so in place of the answer
                raise
            raise unknown(error) from error

    def _check_connected(self) -> None:
        """Raise when the server has gone since the last time: noticed now, nothing was written."""
        try:
            for _ in range(_LOOKS):
                if not self._poll.poll(0):
                    return
                self._raw.pgconn.consume_input()
        except Exception as error:
            raise sql_error(error) from error

    def write(self, rows: Sequence[Row]) -> None:
        """Write rows inside of a transaction."""
        if self._upsert_at is not None:
            # One statement may not touch a row twice: of messages with one id the last one counts.
            at = self._upsert_at
            rows = list({row[at]: row for row in rows}.values())
        try:
            if self._copies:
                self._copy(rows)
            else:
                columns = [_Texts(column) for column in zip(*rows, strict=True)]
                self._cursor.execute(self._insert, columns, prepare=self._prepares)
        except Exception as error:
            raise sql_error(error) from error

    def _copy(self, rows: Sequence[Row]) -> None:
        with self._cursor.copy(self._texts.copy) as copy:
            add = copy.write_row
            for row in rows:
                add(row)

    def _types(self) -> dict[str, str]:
        try:
            self._cursor.execute(_TYPES, [self._texts.table])
            return dict(self._cursor.fetchall())
        except Exception as error:
            raise sql_error(error) from error


class _Texts(tuple[Any, ...]):
    """The values of a column."""


class _TextsDumper(Dumper):
    """Writes a column as a binary array of texts, each as psycopg writes it for COPY: nothing is escaped."""

    format = Format.BINARY
    oid = _TEXT_ARRAY

    def __init__(self, cls: type, context: Any = None) -> None:
        super().__init__(cls, context)
        self._of = Transformer.from_context(context)
        named = self._of.encoding
        self._encoding = "utf-8" if named == "ascii" else named

    def dump(self, obj: Sequence[Any]) -> bytes:
        texts = self._texts(obj)
        return _head(1, 1, _TEXT, len(obj), 1) + b"".join(
            [_NULL if one is None else _length(len(one)) + one for one in texts]
        )

    def _texts(self, values: Sequence[Any]) -> list[bytes | None]:
        kinds = set(map(type, values))
        if kinds == {str}:
            return [value.encode(self._encoding) for value in values]
        if kinds == {int}:
            return [b"%d" % value for value in values]
        return [self._text(value) for value in values]

    def _text(self, value: Any) -> bytes | None:
        if value is None:
            return None
        text = self._of.get_dumper(value, PyFormat.TEXT).dump(value)
        return None if text is None else bytes(text)
