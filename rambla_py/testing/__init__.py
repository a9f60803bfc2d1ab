"""This module is the door of the testing kit: doubles, faults, real servers, and the contract of handlers.

``HandlerContract`` is imported when it is asked for, and nothing else is here late: it needs pytest, which an
application that only wants ``ScriptedHandler`` or ``FakeClock`` may not have. Its module is registered for
pytest's assertion rewriting first, so that a broken promise shows the values.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rambla_py.testing.clock import FakeClock
from rambla_py.testing.faults import FaultProxy
from rambla_py.testing.script import Arrival, Script, Step, forget, script
from rambla_py.testing.scripted import (
    ScriptedAsyncHandler,
    ScriptedBatchHandler,
    ScriptedHandler,
    ScriptedPublishHandler,
)
from rambla_py.testing.servers import RabbitMqServer, RedisServer, Server, ServerError, TlsFiles
from rambla_py.testing.smtp_server import SmtpServer

if TYPE_CHECKING:
    from rambla_py.testing.contract import CANARY, HandlerContract, Received

__all__ = [
    "CANARY",
    "Arrival",
    "FakeClock",
    "FaultProxy",
    "HandlerContract",
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
    "SmtpServer",
    "Step",
    "TlsFiles",
    "forget",
    "script",
]

_LATE = frozenset({"CANARY", "HandlerContract", "Received"})
_CONTRACT = "rambla_py.testing.contract"


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("pytest").register_assert_rewrite(_CONTRACT, "rambla_py.testing.trial")
    return getattr(importlib.import_module(_CONTRACT), name)
