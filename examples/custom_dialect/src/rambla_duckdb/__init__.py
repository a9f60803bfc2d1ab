"""DuckDB for ``rambla_py.sql``."""

from rambla_duckdb.dialect import DuckDbDialect

__all__ = ["DuckDbDialect"]
