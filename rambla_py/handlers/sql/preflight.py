"""What would make every row of a channel fail, found out without writing one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rambla_py.sql.errors import SqlAccessError

if TYPE_CHECKING:
    from rambla_py.handler import Preflight
    from rambla_py.sql.bulk import Statements
    from rambla_py.sql.database import Database

__all__ = ["look"]

_EXPLAINED: Final = frozenset({"postgresql", "mysql", "mariadb"})
_DENIED: Final = ("permission denied", "denied to user", "readonly database", "read-only")


def look(connection: Any, database: Database, statements: Statements, report: Preflight) -> None:
    """Explain an insert, which needs the right to insert; with SQLite, begin to write and take it back."""
    what = f"the right to write to table {statements.table}"
    cursor = connection.cursor()
    try:
        if database.kind == "sqlite":
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("ROLLBACK")
        elif database.kind in _EXPLAINED:
            cursor.execute(_explained(statements))
            cursor.fetchall()
        else:
            report.not_checked(what)
    except Exception as error:
        mapped = database.map_error(error)
        text = (
            str(mapped) if not mapped.detail or mapped.detail in str(mapped) else f"{mapped}: {mapped.detail}"
        )
        if isinstance(mapped, SqlAccessError) or any(part in text.lower() for part in _DENIED):
            report.problem(
                text, hint=f"give the connection's user the right to insert into {statements.table}"
            )
        else:
            report.not_checked(f"{what}: {mapped}")
    finally:
        cursor.close()


def _explained(statements: Statements) -> str:
    values = ", ".join(["NULL"] * statements.width)
    # Without parameters, drivers take percent signs as they are.
    return f"EXPLAIN {statements.head} VALUES ({values}){statements.suffix}".replace("%%", "%")
