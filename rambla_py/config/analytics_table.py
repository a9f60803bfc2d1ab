"""The table ``[rambla.analytics]``, whose struct is imported only for a configuration that has one."""

from __future__ import annotations

from typing import Any

import msgspec

from rambla_py._internal.import_paths import import_object
from rambla_py.config.conversion import BAD, convert_struct, convert_table
from rambla_py.config.problems import ProblemList
from rambla_py.config.raw_tree import Node
from rambla_py.errors import HandlerError

__all__ = ["analytics_struct", "read_analytics"]

_PATH = "rambla.analytics"


def analytics_struct() -> type[msgspec.Struct]:
    """Return the struct of the table; raises ``HandlerError`` if the extra is not installed."""
    struct: type[msgspec.Struct] = import_object("rambla_py.analytics.settings:AnalyticsSettings")
    return struct


def read_analytics(table: Node, problems: ProblemList) -> Any:
    """Return the settings of the table, or None with the problems recorded."""
    if convert_table(table, _PATH, problems) is None:
        return None
    try:
        struct = analytics_struct()
    except HandlerError as error:
        hint = "pip install 'rambla-py[analytics]'"
        problems.add(_PATH, expected="the packages of analytics", got=str(error), file=table.file, hint=hint)
        return None
    settings = convert_struct(table, struct, _PATH, problems)
    return None if settings is BAD else settings
