"""The testing kit: doubles, faults, real servers, and the contract of handlers.

What stands behind a name is imported when it is first asked for: pytest loads the plugin of this package in
every run where rambla_py is installed, and the contract needs pytest, which an application that only wants
``ScriptedHandler`` or ``FakeClock`` may not have. Modules that assert are registered for pytest's assertion
rewriting first, so that a failed assertion shows the values.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rambla_py.testing.clickhouse_server import ClickHouseServer
    from rambla_py.testing.clock import FakeClock
    from rambla_py.testing.contract import CANARY, HandlerContract, Received
    from rambla_py.testing.databases import MariaDbServer, PostgresServer
    from rambla_py.testing.doubles import Capture, doubled, on_doubles
    from rambla_py.testing.faults import FaultProxy
    from rambla_py.testing.kafka_cluster import KafkaCluster
    from rambla_py.testing.mosquitto import MosquittoServer
    from rambla_py.testing.nats_server import NatsServer
    from rambla_py.testing.pgbouncer import PgBouncer
    from rambla_py.testing.redis_groups import RedisCluster, WatchedRedis
    from rambla_py.testing.s3 import MotoServer
    from rambla_py.testing.scripted import (
        ScriptedAsyncHandler,
        ScriptedBatchHandler,
        ScriptedHandler,
        ScriptedPublishHandler,
    )
    from rambla_py.testing.servers import RabbitMqServer, RedisServer, Server, ServerError, TlsFiles
    from rambla_py.testing.single_handler import ConnectedHandler, connected, delivery
    from rambla_py.testing.smtp_server import SmtpServer
    from rambla_py.testing.sql_contract import SqlContract
    from rambla_py.testing.state_contract import StateContract
    from rambla_py.testing.state_server import StateServer
    from rambla_py.testing.steps import Arrival, Script, Step, forget, script

__all__ = [
    "CANARY",
    "Arrival",
    "Capture",
    "ClickHouseServer",
    "ConnectedHandler",
    "FakeClock",
    "FaultProxy",
    "HandlerContract",
    "KafkaCluster",
    "MariaDbServer",
    "MosquittoServer",
    "MotoServer",
    "NatsServer",
    "PgBouncer",
    "PostgresServer",
    "RabbitMqServer",
    "Received",
    "RedisCluster",
    "RedisServer",
    "Script",
    "ScriptedAsyncHandler",
    "ScriptedBatchHandler",
    "ScriptedHandler",
    "ScriptedPublishHandler",
    "Server",
    "ServerError",
    "SmtpServer",
    "SqlContract",
    "StateContract",
    "StateServer",
    "Step",
    "TlsFiles",
    "WatchedRedis",
    "connected",
    "delivery",
    "doubled",
    "forget",
    "on_doubles",
    "script",
]

_MODULES: Final = {
    "clickhouse_server": ("ClickHouseServer",),
    "clock": ("FakeClock",),
    "contract": ("CANARY", "HandlerContract", "Received"),
    "databases": ("MariaDbServer", "PostgresServer"),
    "pgbouncer": ("PgBouncer",),
    "doubles": ("Capture", "doubled", "on_doubles"),
    "faults": ("FaultProxy",),
    "kafka_cluster": ("KafkaCluster",),
    "mosquitto": ("MosquittoServer",),
    "nats_server": ("NatsServer",),
    "redis_groups": ("RedisCluster", "WatchedRedis"),
    "s3": ("MotoServer",),
    "scripted": ("ScriptedAsyncHandler", "ScriptedBatchHandler", "ScriptedHandler", "ScriptedPublishHandler"),
    "servers": ("RabbitMqServer", "RedisServer", "Server", "ServerError", "TlsFiles"),
    "single_handler": ("ConnectedHandler", "connected", "delivery"),
    "smtp_server": ("SmtpServer",),
    "sql_contract": ("SqlContract",),
    "state_contract": ("StateContract",),
    "state_server": ("StateServer",),
    "steps": ("Arrival", "Script", "Step", "forget", "script"),
}
_MODULE_OF: Final = {name: module for module, names in _MODULES.items() for name in names}
_ASSERTING: Final = {
    "contract": ("contract", "contract_case", "contract_tests", "harness"),
    "sql_contract": ("sql_contract", "sql_contract_tests", "harness"),
    "state_contract": ("state_contract", "state_model", "state_tests"),
}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    rewritten = [f"{__name__}.{asserting}" for asserting in _ASSERTING.get(module, ())]
    if rewritten:
        importlib.import_module("pytest").register_assert_rewrite(*rewritten)
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
