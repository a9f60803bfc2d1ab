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

if TYPE_CHECKING:
    from rambla_py.testing.contract import CANARY, HandlerContract, Received
    from rambla_py.testing.state_contract import StateContract

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
    "StateContract",
    "Step",
    "TlsFiles",
    "forget",
    "script",
]

_LATE = frozenset({"CANARY", "HandlerContract", "Received"})
_CONTRACT = "rambla_py.testing.contract"
_STATE_CONTRACT = "rambla_py.testing.state_contract"
_STATE_MODEL = "rambla_py.testing.state_model"


def __getattr__(name: str) -> Any:
    if name == "StateContract":
        importlib.import_module("pytest").register_assert_rewrite(_STATE_CONTRACT, _STATE_MODEL)
        return importlib.import_module(_STATE_CONTRACT).StateContract
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("pytest").register_assert_rewrite(_CONTRACT, "rambla_py.testing.trial")
    return getattr(importlib.import_module(_CONTRACT), name)
