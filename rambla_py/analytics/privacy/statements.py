"""SQL statements without their values."""

from __future__ import annotations

import functools
import hashlib
import importlib
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from rambla_py.analytics.privacy.marks import CUT

if TYPE_CHECKING:
    from rambla_py.analytics.privacy.sql_masking import MaskedSql

__all__ = ["QueryText", "Statements"]

_log = logging.getLogger("rambla_py.analytics")

_CACHED: Final = 1_024
_SHORT: Final = 2_048
"""Longest statement that is cached, in characters."""
_LONGEST: Final = 10_000
"""Longest statement whose text is recorded, in characters."""
_DIGITS: Final = 16
_OTHER: Final = "OTHER"
_BEFORE_FIRST_WORD = re.compile(
    r"(?:[\s(;]|--[^\n]*(?:\n|\Z)|#[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))*+([A-Za-z]+)", re.DOTALL
)
_DIALECTS: Final = {
    "postgresql": "postgres",
    "postgres": "postgres",
    "cockroachdb": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
    "clickhouse": "clickhouse",
}
# Only words of this list are recorded as a type: the first word of what is no SQL may be a secret.
_TYPES: Final = frozenset(
    str.split(
        "SELECT INSERT UPDATE DELETE MERGE REPLACE WITH VALUES TABLE CREATE ALTER DROP TRUNCATE RENAME"
        " COMMENT GRANT REVOKE BEGIN START COMMIT ROLLBACK SAVEPOINT RELEASE SET RESET SHOW USE EXPLAIN"
        " DESCRIBE ANALYZE VACUUM OPTIMIZE REINDEX CHECKPOINT CLUSTER PRAGMA ATTACH DETACH COPY LOAD CALL"
        " DO EXEC EXECUTE PREPARE DEALLOCATE DECLARE FETCH MOVE CLOSE LISTEN NOTIFY UNLISTEN LOCK UNLOCK"
        " REFRESH KILL FLUSH SYSTEM REASSIGN DISCARD EXCHANGE IMPORT DESC"
    )
)


class QueryText(NamedTuple):
    """What is recorded of a statement; ``text`` and ``hash`` are None in doubt."""

    type: str
    text: str | None
    hash: str | None


class Statements:
    """Statements without values, the last 1,024 short ones cached.

    ``text`` cleans what is left of a statement, such as identifiers that hold an e-mail address.

    >>> Statements(str).query("/* x */ select 'a', 0x1F", "sqlite")[:2]
    ('SELECT', 'select ?, ?')
    """

    __slots__ = ("_cached", "_max_text", "_text", "_with_text")

    def __init__(self, text: Callable[[str], str], *, max_text: int = 8192, with_text: bool = True) -> None:
        self._text = text
        self._max_text = max_text
        self._with_text = with_text
        self._cached = functools.lru_cache(_CACHED)(self._query)

    def query(self, statement: str, dialect: str | None) -> QueryText:
        """Return type, text and hash of a statement in SQLAlchemy's name of a dialect; None if unknown."""
        known = _DIALECTS.get(dialect.lower().partition("+")[0]) if isinstance(dialect, str) else None
        if len(statement) <= _SHORT:
            return self._cached(statement, known)
        return self._query(statement, known)

    def _query(self, statement: str, dialect: str | None) -> QueryText:
        found = _BEFORE_FIRST_WORD.match(statement[:_LONGEST])
        first = found[1].upper() if found else ""
        if first not in _TYPES:
            return QueryText(_OTHER, None, None)
        masked = _masked(statement, dialect) if len(statement) <= _LONGEST else None
        if masked is None:
            return QueryText(first, None, None)
        text = self._text(masked.text)
        grouped = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_DIGITS]
        if len(text) > self._max_text:
            text = text[: self._max_text] + CUT
        return QueryText(masked.type or first, text if self._with_text else None, grouped)


def _masked(statement: str, dialect: str | None) -> MaskedSql | None:
    mask = _masking()
    return None if mask is None else mask(statement, dialect)


@functools.cache
def _masking() -> Callable[[str, str | None], MaskedSql | None] | None:
    """Import what masks statements, with the first of them: sqlglot takes 0.1 s; None without sqlglot."""
    try:
        found = importlib.import_module("rambla_py.analytics.privacy.sql_masking")
    except ImportError:
        _log.warning(
            "statements are tracked without their text, because sqlglot is missing; "
            "pip install 'rambla-py[analytics]'"
        )
        return None
    return found.masked_sql  # type: ignore[no-any-return]  # a function of the module
