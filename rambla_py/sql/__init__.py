"""This package speaks SQL to SQLite, PostgreSQL, MySQL and MariaDB: statements, transactions, types, errors."""

from rambla_py.sql.errors import SqlError

__all__ = ["SqlError"]
