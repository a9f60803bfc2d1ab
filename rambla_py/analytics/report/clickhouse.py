"""Read access to the tables of the events in ClickHouse."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from rambla_py.analytics.report.source import PERCENTILES
from rambla_py.analytics.tables import TABLES, own_fields, table_events

if TYPE_CHECKING:
    from rambla_py.handlers.clickhouse.reader import ClickHouseReader

__all__ = ["ClickHouseSource"]

_MILLISECONDS: Final = "timestamp_ms"
"""The column beside ``timestamp`` where the server has no ``DateTime64``."""
_COLUMNS: Final = (
    "SELECT table, groupArray(name) AS names, groupArray(type) AS types FROM system.columns "
    "WHERE database = currentDatabase() AND name LIKE 'timestamp%' AND table IN ({tables}) GROUP BY table"
)


class ClickHouseSource:
    """The rows of a period; an event that was inserted twice counts once."""

    exact = False
    # The function takes whole weights: in thousandths, so that 1 / 0.3 keeps four digits.
    percentiles = ", ".join(
        f"quantileExactWeighted({percent / 100})(measured, toUInt64(round(weight * 1000))) AS p{percent}"
        for percent in PERCENTILES
    )

    def __init__(self, db: ClickHouseReader, begin: datetime.datetime, end: datetime.datetime) -> None:
        self._db = db
        self._begin_ms, self._end_ms = (round(at.timestamp() * 1_000) for at in (begin, end))
        named = ", ".join(f"'{table}'" for table in TABLES)
        self._times = {
            row["table"]: _time_of(dict(zip(row["names"], row["types"], strict=True)))
            for row in db.rows(_COLUMNS.format(tables=named))
        }

    def rows(self, table: str, sql: str, *, where: str = "1 = 1") -> Iterator[dict[str, Any]]:
        """Yield the rows of a query over those of the period."""
        if table not in self._times:
            return
        # In whole seconds by the column, which the table is ordered by; then exactly.
        first, last = self._begin_ms // 1_000, math.ceil(self._end_ms / 1_000)
        rows = (
            f"(SELECT {_columns_of(table)}, ifNull(1 / nullIf(sample_rate, 0), 1) AS weight, "
            f"{self._times[table]} AS occurred_at "
            f"FROM {table} WHERE timestamp >= toDateTime({first}) AND timestamp <= toDateTime({last}) "
            f"AND occurred_at >= {self._begin_ms} AND occurred_at < {self._end_ms} AND {where} LIMIT 1 BY id)"
        )
        yield from self._db.rows(sql.format(rows=rows))

    def ranked(self, keys: str, value: str, columns: str) -> str:
        """Return the rows; ClickHouse has functions for the rest."""
        return f"(SELECT {columns}, {value} AS measured, weight, sample_rate FROM {{rows}} r) ranked"

    def text(self, column: str) -> str:
        """Return the column: ClickHouse compares bytes."""
        return column


def _columns_of(table: str) -> str:
    """Return the columns that reports read; amounts as text: a server of 2018 dies of grouping them."""
    own = (field for event in table_events()[table] for field in own_fields(event).items())
    amounts = [f"toString({name}) AS {name}" if "numeric" in field.sql else name for name, field in own]
    return ", ".join(dict.fromkeys(["id", "event_action", "timestamp", "sample_rate", "context", *amounts]))


def _time_of(types: dict[str, str]) -> str:
    """Return an expression for the time of a row, in milliseconds since the epoch."""
    if types["timestamp"].startswith("DateTime64"):
        return "toUnixTimestamp64Milli(timestamp)"
    seconds = "toInt64(toUInt32(timestamp)) * 1000"
    return f"{seconds} + {_MILLISECONDS}" if _MILLISECONDS in types else seconds
