"""SQLAlchemy's dialect of DuckDB: its SQL is that of PostgreSQL, its catalogue the standard's."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy.dialects.postgresql.base import (
    PGCompiler,
    PGDDLCompiler,
    PGIdentifierPreparer,
    PGTypeCompiler,
)
from sqlalchemy.engine.default import DefaultDialect

from rambla_duckdb import connection as dbapi

__all__ = ["DuckDbAlchemy"]


class TypeCompiler(PGTypeCompiler):
    """Names of types."""

    def visit_JSON(self, type_: Any, **kw: Any) -> str:  # noqa: N802  # SQLAlchemy's name
        """DuckDB keeps JSON as text."""
        return "JSON"


class DuckDbAlchemy(DefaultDialect):
    """What SQLAlchemy needs to know; ``DuckDbDialect`` opens the connections."""

    name = "duckdb"
    driver = "rambla"
    default_paramstyle = "qmark"
    statement_compiler = PGCompiler
    ddl_compiler = PGDDLCompiler
    type_compiler_cls = TypeCompiler
    preparer = PGIdentifierPreparer
    supports_statement_cache = True
    supports_native_boolean = True
    supports_native_decimal = True
    supports_native_uuid = True
    insert_returning = update_returning = delete_returning = True
    supports_sane_rowcount = supports_sane_multi_rowcount = True

    # Read by the compilers of PostgreSQL.
    _backslash_escapes = False
    _supports_create_index_concurrently = False

    def __init__(self, json_serializer: Any = None, json_deserializer: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self._json_serializer, self._json_deserializer = json_serializer, json_deserializer

    @classmethod
    def import_dbapi(cls) -> Any:
        """Return the DBAPI module."""
        return dbapi

    def initialize(self, connection: Any) -> None:
        """Nothing to ask for."""

    def do_ping(self, dbapi_connection: Any) -> bool:
        """Return whether a query works."""
        dbapi_connection.cursor().execute("SELECT 1")
        return True

    def get_isolation_level_values(self, dbapi_conn: Any) -> list[str]:
        """Return no level: all transactions are snapshots."""
        return []

    def get_columns(
        self, connection: Any, table_name: str, schema: str | None = None, **kw: Any
    ) -> list[Any]:
        """Return the columns of a table, in their order."""
        found = connection.execute(
            sqlalchemy.text(
                "select column_name, data_type from information_schema.columns "
                "where table_name = :name and table_schema = coalesce(:schema, current_schema()) "
                "order by ordinal_position"
            ),
            {"name": table_name, "schema": schema},
        ).all()
        if not found:
            raise sqlalchemy.exc.NoSuchTableError(table_name)
        return [{"name": name, "type": _TYPES.get(kind, sqlalchemy.Text)()} for name, kind in found]


_TYPES: dict[str, Any] = {
    "BLOB": sqlalchemy.LargeBinary,
    "JSON": sqlalchemy.JSON,
    "TIMESTAMP": sqlalchemy.DateTime,
    "TIMESTAMP WITH TIME ZONE": lambda: sqlalchemy.DateTime(timezone=True),
}
