"""Errors of MySQL and MariaDB mapped to those of ``rambla_py.sql``."""

from __future__ import annotations

import re
import ssl

import pymysql.constants.ER
import pymysql.err

from rambla_py.sql.dialect import conversion_error, one_line
from rambla_py.sql.dialects.mysql_connection import MysqlTimeoutError
from rambla_py.sql.errors import (
    SqlAccessError,
    SqlBusyError,
    SqlConflictError,
    SqlConnectionLostError,
    SqlDataError,
    SqlError,
    SqlIntegrityError,
    SqlPermissionError,
    SqlStatementError,
    SqlTooLargeError,
    SqlUnavailableError,
)

__all__ = ["ENDS_TRANSACTION", "is_about_access", "mysql_error"]

_Kind = type[SqlError]

ENDS_TRANSACTION = frozenset({"1206", "1213", "1614"})
"""A deadlock, a full lock table: MySQL rolls back the whole transaction, and begins the next one itself."""

_MYSQL_CODES: dict[_Kind, tuple[int, ...]] = {
    SqlIntegrityError: (
        1022, 1048, 1062, 1169, 1216, 1217, 1364, 1369, 1451, 1452, 1526, 1557, 1586, 1644, 1748, 1761,
        1762, 3819, 4025,
    ),
    SqlDataError: (
        1118, 1230, 1264, 1265, 1292, 1365, 1366, 1367, 1406, 1411, 1416, 1439, 1441, 1690, 3140, 3141, 4038,
        4078,
    ),
    SqlTooLargeError: (1153, 1301),
    SqlStatementError: (1046, 1051, 1054, 1064, 1065, 1109, 1110, 1136, 1146, 1149, 1305, 1336),
    SqlPermissionError: (1142, 1143, 1227, 1370),
    SqlConflictError: (1020, 1213, 1614),
    SqlBusyError: (1030, 1206, 1317, 1436, 1969, 3024),
    # Disk or memory full; too many connections; read-only; a lock.
    SqlUnavailableError: (1021, 1037, 1038, 1040, 1041, 1114, 1203, 1205, 1226, 1290, 1792, 1836, 3572),
    SqlAccessError: (1044, 1045, 1049, 1130, 1131, 1251, 1275, 1524, 1698, 3118, 3159, 4151),
    SqlConnectionLostError: (
        0, 1053, 1077, 1079, 1129, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2000, 2002, 2003, 2004, 2005,
        2006, 2012, 2013, 2014, 2026, 2027, 2055, 4031,
    ),
}  # fmt: skip
_MYSQL_KINDS = {number: kind for kind, numbers in _MYSQL_CODES.items() for number in numbers}
# A number that is not listed may come from a trigger: of a row, or of all of them. By the names of the
# classes, which the asyncio driver shares.
_MYSQL_CLASSES: dict[str, _Kind] = {
    "IntegrityError": SqlIntegrityError,
    "DataError": SqlDataError,
    "InterfaceError": SqlConnectionLostError,
    "NotSupportedError": SqlStatementError,
    "ProgrammingError": SqlStatementError,
    "InternalError": SqlBusyError,
    "OperationalError": SqlError,
}


def mysql_error(error: BaseException) -> SqlError:
    """Return the error for one of PyMySQL or asyncmy, or of a conversion."""
    if isinstance(error, MysqlTimeoutError):
        return SqlUnavailableError(str(error.args[1]), ends_session=True)
    classes = {kind.__name__ for kind in type(error).__mro__}
    if "MySQLError" not in classes:
        return conversion_error(error)
    number = error.args[0] if error.args and isinstance(error.args[0], int) else None
    if number is None:
        # Raised by the driver, about a value: "nan can not be used with MySQL".
        return SqlDataError(one_line(error))
    kind = _MYSQL_KINDS.get(number) or next(
        (kind for name, kind in _MYSQL_CLASSES.items() if name in classes), SqlError
    )
    text = str(error.args[1]) if len(error.args) > 1 and error.args[1] else "the connection is closed"
    text = _text(number, text, known=number in _MYSQL_KINDS)
    code = str(number) if number else ""
    if issubclass(kind, SqlUnavailableError):
        read_only, waited = number in (1290, 1792, 1836), number in (1205, 3572)
        return kind(text, code=code, ends_session=read_only, waited=waited)
    return kind(text, code=code)


def is_about_access(error: BaseException) -> bool:
    """Return whether an operator must act on a failed connect."""
    if isinstance(error, ssl.SSLError):
        return True
    reasons = (getattr(error, "original_exception", None), error.__cause__, error.__context__)
    return any(isinstance(one, ssl.SSLError) for one in reasons) or isinstance(
        mysql_error(error), SqlAccessError
    )


# -- texts ---------------------------------------------------------------------------------------

_MYSQL_NAMES = {
    number: name.replace("_", " ").lower()
    for name, number in vars(pymysql.constants.ER).items()
    if isinstance(number, int)
}
_MYSQL_VALUES = frozenset(
    {1048, 1062, 1169, 1264, 1265, 1292, 1364, 1366, 1367, 1406, 1411, 1526, 1586, 1644, 1690}
)
_MYSQL_COLUMN = re.compile(r"(?:[Cc]olumn|Field) ['`](?P<column>[^'`]+)['`]|for column (?P<path>\S+) at row")
_MYSQL_KEY = re.compile(r"for key '(?P<key>[^']*)'$")
_MYSQL_NEAR = re.compile(r"near '.*'", re.DOTALL)


def _text(number: int, message: str, *, known: bool = True) -> str:
    """Return the message of a MySQL error without values; one of an unknown number may quote any.

    >>> _text(1062, "Duplicate entry 'ann@example.com' for key 'PRIMARY'")
    "dup entry: key 'PRIMARY'"
    """
    if known and number not in _MYSQL_VALUES:
        return _MYSQL_NEAR.sub("near ...", message)
    key, column = _MYSQL_KEY.search(message), None if number == 1062 else _MYSQL_COLUMN.search(message)
    named = [f"key {key['key']!r}"] if key else []
    if column:
        named.append(f"column {(column['column'] or column['path']).replace('`', '')!r}")
    text = _MYSQL_NAMES.get(number, "refused")
    return f"{text}: {', '.join(named)}" if named else text
