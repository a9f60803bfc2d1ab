"""This module is the door of the testing kit: doubles, faults, real servers, and the contract of handlers.

The contracts are imported when they are asked for, and nothing else is here late: they need pytest, which an
application that only wants ``ScriptedHandler`` or ``FakeClock`` may not have, and ``SqlContract`` needs the
extra ``sql``. Their modules are registered for pytest's assertion rewriting first, so that a broken promise
shows the values.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rambla_py.testing.clock import FakeClock
from rambla_py.testing.databases import MariaDbServer, PostgresServer
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.script import Arrival, Script, Step, forget, script
from rambla_py.testing.scripted import (
    ScriptedAsyncHandler,
    ScriptedBatchHandler,
    ScriptedHandler,
    ScriptedPublishHandler,
)
from rambla_py.testing.servers import RabbitMqServer, RedisServer, Server, ServerError, TlsFiles

if TYPE_CHECKING:
    from rambla_py.testing.contract import CANARY, HandlerContract, Received
    from rambla_py.testing.sql_contract import SqlContract

__all__ = [
    "CANARY",
    "Arrival",
    "FakeClock",
    "FaultProxy",
    "HandlerContract",
    "MariaDbServer",
    "PostgresServer",
    "RabbitMqServer",
    "Received",
    "RedisServer",
    "Script",
    "ScriptedAsyncHandler",
    "ScriptedBatchHandler",
    "ScriptedHandler",
    "ScriptedPublishHandler",
    "Server",
    "ServerError",
    "SqlContract",
    "Step",
    "TlsFiles",
    "forget",
    "script",
]

_CONTRACT = "rambla_py.testing.contract"
_LATE = {
    "CANARY": _CONTRACT,
    "HandlerContract": _CONTRACT,
    "Received": _CONTRACT,
    "SqlContract": "rambla_py.testing.sql_contract",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("pytest").register_assert_rewrite(_LATE[name], "rambla_py.testing.trial")
    return getattr(importlib.import_module(_LATE[name]), name)
